# sb_add_layer(<name> [USES <layer>...] [LINKS <target>...])
#
# Compiles the .c files of the current folder into the object library sb_<name>. Headers lie flat beside the sources.
# A layer sees its own folder, include/ and the folders of the layers it USES, and these lists are not inherited: a
# header of any other layer is not found, so a forbidden arrow does not compile. LINKS are foreign libraries.
#
# A folder without sources is an interface library, so the tree configures while a layer is still being written.
function(sb_add_layer name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "USES;LINKS")

  file(GLOB sources CONFIGURE_DEPENDS "*.c")
  if(sources)
    add_library(sb_${name} OBJECT ${sources})
    target_include_directories(sb_${name} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/include")
    foreach(used IN LISTS arg_USES)
      target_include_directories(sb_${name} PRIVATE "${PROJECT_SOURCE_DIR}/src/${used}")
    endforeach()
    target_link_libraries(sb_${name} PRIVATE ${arg_LINKS} Threads::Threads)
  else()
    message(STATUS "Layer ${name}: no sources yet")
    add_library(sb_${name} INTERFACE)
  endif()

  set_property(GLOBAL APPEND PROPERTY SB_LAYER_DIRECTORIES "${CMAKE_CURRENT_SOURCE_DIR}")
endfunction()

# sb_layer_objects(<variable> <layer>...): the objects of these layers, for the sources of a target that is linked.
function(sb_layer_objects variable)
  set(objects "")
  foreach(layer IN LISTS ARGN)
    get_target_property(type sb_${layer} TYPE)
    if(type STREQUAL "OBJECT_LIBRARY")
      list(APPEND objects "$<TARGET_OBJECTS:sb_${layer}>")
    endif()
  endforeach()
  set(${variable} "${objects}" PARENT_SCOPE)
endfunction()

# sb_layer_define(<layer> <definition>...): compile definitions for one layer's sources.
function(sb_layer_define layer)
  get_target_property(type sb_${layer} TYPE)
  if(type STREQUAL "OBJECT_LIBRARY")
    target_compile_definitions(sb_${layer} PRIVATE ${ARGN})
  endif()
endfunction()
