# Stand-in for the SlicerConfig.cmake of a Slicer build tree: what the extension's CMake files call, and no more. Read in
# Slicer 5.12: CMake/SlicerConfig.cmake.in, SlicerMacroBuildScriptedModule.cmake, SlicerMacroPythonTesting.cmake,
# SlicerExtensionGenerateConfig.cmake, SlicerExtensionCPack.cmake, and CTK's CMake/ctkMacroCompilePythonScript.cmake.
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/SlicerExtensionGenerateConfig.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/SlicerExtensionCPack.cmake)
set(Slicer_USE_PYTHONQT TRUE)
set(Slicer_VERSION 5.12)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-${Slicer_VERSION}/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR ${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
set(Slicer_LAUNCHER_EXECUTABLE Slicer)
