# How every source of the project is compiled.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# Empty rather than 1, so that a file which says "#define _GNU_SOURCE" itself is no redefinition.
add_compile_options(-D_GNU_SOURCE=)

add_compile_options(
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wwrite-strings -Wformat=2)
if(SNAKEBRIDGE_WERROR)
  add_compile_options(-Werror)
endif()

if(SNAKEBRIDGE_POINTS)
  add_compile_definitions(SNAKEBRIDGE_POINTS)
endif()

add_link_options(-Wl,--as-needed -Wl,-z,relro -Wl,-z,now)

if(SNAKEBRIDGE_SANITIZE)
  add_compile_options("-fsanitize=${SNAKEBRIDGE_SANITIZE}" -fno-omit-frame-pointer)
  add_link_options("-fsanitize=${SNAKEBRIDGE_SANITIZE}")
  if(SNAKEBRIDGE_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
  if(SNAKEBRIDGE_SANITIZE MATCHES "thread")
    add_compile_options(-Wno-tsan) # "atomic_thread_fence is not supported": libatomic_ops has them in its headers
  endif()
endif()

# Layers call each other in small steps: a call costs a tenth less where the linker may put them together. The tests are hundreds of
# programs of the same objects, each of which would be compiled again.
if(SNAKEBRIDGE_LTO AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT SNAKEBRIDGE_SANITIZE AND NOT SNAKEBRIDGE_TESTS)
  include(CheckIPOSupported)
  check_ipo_supported(RESULT ipo_works OUTPUT ipo_says LANGUAGES C)
  if(ipo_works)
    set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ON)
  else()
    message(STATUS "No optimisation across files: ${ipo_says}")
  endif()
endif()
