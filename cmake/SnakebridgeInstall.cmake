# What `cmake --install` puts where, and how other projects find it.

include(CMakePackageConfigHelpers)

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/snakebridge" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h")

if(TARGET snakebridge)
  install(TARGETS snakebridge EXPORT SnakebridgeTargets
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  install(EXPORT SnakebridgeTargets NAMESPACE Snakebridge::
    DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/Snakebridge")
endif()
if(TARGET snakebridge-python)
  install(TARGETS snakebridge-python LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}/snakebridge")
endif()

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/SnakebridgeConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/SnakebridgeConfig.cmake" INSTALL_DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/Snakebridge")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/SnakebridgeConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/SnakebridgeConfig.cmake" "${PROJECT_BINARY_DIR}/SnakebridgeConfigVersion.cmake"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/Snakebridge")

# snakebridge.pc names its prefix relative to itself when it can, so an installed tree can be moved.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(SB_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
  set(SB_PC_LIBDIR "${CMAKE_INSTALL_FULL_LIBDIR}")
  set(SB_PC_INCLUDEDIR "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
else()
  file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  string(REGEX REPLACE "/$" "" up "${up}")
  set(SB_PC_PREFIX "\${pcfiledir}/${up}")
  set(SB_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
  set(SB_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file("${PROJECT_SOURCE_DIR}/cmake/snakebridge.pc.in" "${PROJECT_BINARY_DIR}/snakebridge.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/snakebridge.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
