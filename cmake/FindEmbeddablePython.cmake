# Finds a CPython that can be embedded: its header Python.h and its shared libpython are both there.
#
# The first python3 in PATH is not trusted: it may be a version manager's shim whose Python was built without a shared
# library. Each candidate is asked through its own sysconfig, and the first that will do is taken:
#   SNAKEBRIDGE_PYTHON (then nothing else is tried), /usr/bin/python3, /usr/local/bin/python3, every python3 in PATH,
#   python3.13, python3.12, python3.11 in PATH.
#
# Results: EmbeddablePython_FOUND, _EXECUTABLE (the base executable, links resolved), _VERSION (3.11), _FULL_VERSION,
# _INCLUDE_DIRS, _SONAME (libpython3.11.so.1.0), _LIBRARY (its full path).

set(_ep_query [=[
import os, sys, sysconfig
var = sysconfig.get_config_var
paths = sysconfig.get_paths()
soname = var("INSTSONAME") or var("LDLIBRARY") or ""
library = next((p for p in (os.path.join(d, soname) for d in (var("LIBDIR"), var("LIBPL")) if d)
                if soname and os.path.isfile(p)), "")
print(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
print("%d.%d" % sys.version_info[:2])
print("%d.%d.%d" % sys.version_info[:3])
print(sys.implementation.name)
print(var("Py_ENABLE_SHARED") or 0)
print(soname or "-")
print(library or "-")
print(var("LIBDIR") or "-")
print(paths["include"])
print(paths["platinclude"])
]=])

# _ep_try(<python>): sets _ep_refusal to why not, or to "" with the _ep_* answers set.
macro(_ep_try python)
  execute_process(COMMAND "${python}" -I -c "${_ep_query}"
    OUTPUT_VARIABLE _ep_output ERROR_VARIABLE _ep_error RESULT_VARIABLE _ep_status
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE TIMEOUT 30)
  if(NOT _ep_status STREQUAL "0")
    string(REGEX REPLACE "\n.*" "" _ep_error "${_ep_error}")
    set(_ep_refusal "does not run (${_ep_status}) ${_ep_error}")
  else()
    string(REPLACE "\n" ";" _ep_output "${_ep_output}")
    list(GET _ep_output 0 _ep_executable)
    list(GET _ep_output 1 _ep_version)
    list(GET _ep_output 2 _ep_full_version)
    list(GET _ep_output 3 _ep_implementation)
    list(GET _ep_output 4 _ep_shared)
    list(GET _ep_output 5 _ep_soname)
    list(GET _ep_output 6 _ep_library)
    list(GET _ep_output 7 _ep_libdir)
    list(GET _ep_output 8 _ep_include)
    list(GET _ep_output 9 _ep_platinclude)
    if(NOT _ep_implementation STREQUAL "cpython")
      set(_ep_refusal "is ${_ep_implementation}, not CPython")
    elseif(_ep_full_version VERSION_LESS EmbeddablePython_FIND_VERSION)
      set(_ep_refusal "is Python ${_ep_full_version}, older than ${EmbeddablePython_FIND_VERSION}")
    elseif(NOT _ep_shared)
      set(_ep_refusal "Python ${_ep_full_version} at ${_ep_executable} was built without a shared libpython")
    elseif(_ep_library STREQUAL "-")
      set(_ep_refusal "its shared library ${_ep_soname} is not in ${_ep_libdir}")
    elseif(NOT EXISTS "${_ep_include}/Python.h")
      set(_ep_refusal "there is no ${_ep_include}/Python.h (on Debian: apt-get install python3-dev)")
    else()
      set(_ep_refusal "")
    endif()
  endif()
endmacro()

if(SNAKEBRIDGE_PYTHON)
  set(_ep_candidates "${SNAKEBRIDGE_PYTHON}")
else()
  set(_ep_candidates /usr/bin/python3 /usr/local/bin/python3)
  string(REPLACE ":" ";" _ep_path "$ENV{PATH}")
  foreach(_ep_name IN ITEMS python3 python3.13 python3.12 python3.11)
    foreach(_ep_dir IN LISTS _ep_path)
      list(APPEND _ep_candidates "${_ep_dir}/${_ep_name}")
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES _ep_candidates)
endif()

set(_ep_tried "")
set(EmbeddablePython_EXECUTABLE "")
foreach(_ep_candidate IN LISTS _ep_candidates)
  if(NOT EXISTS "${_ep_candidate}")
    if(SNAKEBRIDGE_PYTHON)
      string(APPEND _ep_tried "\n  ${_ep_candidate}: there is no such file")
    endif()
    continue()
  endif()
  _ep_try("${_ep_candidate}")
  if(_ep_refusal STREQUAL "")
    set(EmbeddablePython_EXECUTABLE "${_ep_executable}")
    set(EmbeddablePython_VERSION "${_ep_version}")
    set(EmbeddablePython_FULL_VERSION "${_ep_full_version}")
    set(EmbeddablePython_INCLUDE_DIRS "${_ep_include}" "${_ep_platinclude}")
    list(REMOVE_DUPLICATES EmbeddablePython_INCLUDE_DIRS)
    set(EmbeddablePython_SONAME "${_ep_soname}")
    set(EmbeddablePython_LIBRARY "${_ep_library}")
    break()
  endif()
  string(APPEND _ep_tried "\n  ${_ep_candidate}: ${_ep_refusal}")
endforeach()
if(_ep_tried STREQUAL "")
  set(_ep_tried "\n  (no python3 anywhere)")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(EmbeddablePython
  REQUIRED_VARS EmbeddablePython_EXECUTABLE EmbeddablePython_LIBRARY EmbeddablePython_INCLUDE_DIRS
  VERSION_VAR EmbeddablePython_FULL_VERSION
  REASON_FAILURE_MESSAGE "no Python that can be embedded. Tried:${_ep_tried}\nSet SNAKEBRIDGE_PYTHON to one that has \
a shared libpython and its headers")
