option(BUILD_TESTING "Register the tests that run in Slicer" ON)
if(BUILD_TESTING)
  enable_testing()
endif()

# Copies the files of a scripted module into the build tree, in their folders, and installs that tree. A file that is
# listed and does not exist is an error; one that exists and is not listed is left out in silence, as in Slicer.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: unknown arguments ${MODULE_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT MODULE_NAME OR NOT MODULE_SCRIPTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: NAME and SCRIPTS are mandatory")
  endif()
  set(destination ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
  set(contents_of /)
  if(MODULE_WITH_SUBDIR)
    get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(destination ${destination}/${folder})
    set(contents_of "")
  endif()
  set(copies)
  foreach(file ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "slicerMacroBuildScriptedModule: given nonexistent file ${file}")
    endif()
    add_custom_command(
      OUTPUT ${destination}/${file}
      COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_SOURCE_DIR}/${file} ${destination}/${file}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file}
      )
    list(APPEND copies ${destination}/${file})
  endforeach()
  add_custom_target(Copy${MODULE_NAME}PythonFiles ALL DEPENDS ${copies})
  install(
    DIRECTORY ${destination}${contents_of}
    DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}
    COMPONENT RuntimeLibraries
    USE_SOURCE_PERMISSIONS
    )
endfunction()

function(slicer_add_python_test)
  cmake_parse_arguments(TEST "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS;SCRIPT_ARGS" ${ARGN})
  _stand_in_add_test("--python-script;${TEST_SCRIPT};${TEST_SCRIPT_ARGS}")
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  _stand_in_add_test("--python-code;runUnitTest")
endfunction()

macro(_stand_in_add_test arguments)
  if(TEST_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "Unknown arguments of a test: ${TEST_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT IS_ABSOLUTE ${TEST_SCRIPT})
    set(TEST_SCRIPT ${CMAKE_CURRENT_SOURCE_DIR}/${TEST_SCRIPT})
  endif()
  if(NOT EXISTS ${TEST_SCRIPT})
    message(FATAL_ERROR "The script of a test does not exist: ${TEST_SCRIPT}")
  endif()
  get_filename_component(name ${TEST_SCRIPT} NAME_WE)
  add_test(
    NAME py_${TEST_TESTNAME_PREFIX}${name}
    COMMAND ${Slicer_LAUNCHER_EXECUTABLE} --no-splash --testing ${TEST_SLICER_ARGS} ${arguments}
    )
endmacro()
