# Slicer reads the extension's description from these variables; a missing one makes a package without it.
foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${name}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${name} is not set")
  endif()
endforeach()
if(DEFINED EXTENSION_CATEGORY)
  message(FATAL_ERROR "The category of an extension is in its entry of the Extensions Index")
endif()
