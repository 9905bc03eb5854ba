# sb_find_dependency(<name> HEADER <header> LIBRARY <library> DEBIAN <package>)
#
# Makes the imported target sb::<name>, or stops and names the Debian package to install. None of these libraries
# ships a CMake package on Debian 12 and all lie in default paths, so neither pkg-config nor find modules are needed.
function(sb_find_dependency name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "HEADER;LIBRARY;DEBIAN" "")
  string(TOUPPER "${name}" upper)

  find_path(${upper}_INCLUDE_DIR NAMES "${arg_HEADER}")
  find_library(${upper}_LIBRARY NAMES "${arg_LIBRARY}")
  mark_as_advanced(${upper}_INCLUDE_DIR ${upper}_LIBRARY)
  if(NOT ${upper}_INCLUDE_DIR OR NOT ${upper}_LIBRARY)
    message(FATAL_ERROR
      "${name} was not found (header ${arg_HEADER}, library lib${arg_LIBRARY}). On Debian: apt-get install "
      "${arg_DEBIAN}. Elsewhere set ${upper}_INCLUDE_DIR and ${upper}_LIBRARY.")
  endif()

  add_library(sb::${name} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(sb::${name} PROPERTIES
    IMPORTED_LOCATION "${${upper}_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${${upper}_INCLUDE_DIR}")
endfunction()
