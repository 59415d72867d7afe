# Packaging stops where the extension has no readme or licence.
foreach(pattern "README*" "LICENSE*")
  file(GLOB found ${PROJECT_SOURCE_DIR}/${pattern})
  if(NOT found)
    message(FATAL_ERROR "There is no ${pattern} in ${PROJECT_SOURCE_DIR}")
  endif()
endforeach()
