# Generates generated/build_info.cpp (declared in apps/build_info.hpp) at build time.
#
# Two steps, so that nothing is rebuilt in vain: git_state.txt is checked at every build but written only when
# commit, branch or dirtiness changed; build_info.cpp is made anew when it or any of our libraries changed, so
# that its time stamp is the time of the last build that changed something.

# bitnet_add_build_info(TARGET LIBRARIES ...)
function(bitnet_add_build_info target)
  cmake_parse_arguments(ARG "" "" "LIBRARIES" ${ARGN})
  set(state ${CMAKE_BINARY_DIR}/generated/git_state.txt)
  set(source ${CMAKE_BINARY_DIR}/generated/build_info.cpp)
  set(script ${CMAKE_SOURCE_DIR}/cmake/GenerateBuildInfo.cmake)
  add_custom_target(bitnet_git_state
    COMMAND ${CMAKE_COMMAND} -DMODE=state -DSOURCE_DIR=${CMAKE_SOURCE_DIR} -DOUTPUT=${state} -P ${script}
    BYPRODUCTS ${state}
    VERBATIM)
  add_custom_command(OUTPUT ${source}
    COMMAND ${CMAKE_COMMAND} -DMODE=source -DOUTPUT=${source} -DSTATE=${state}
      -DVERSION=${PROJECT_VERSION}
      "-DCOMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
      -DTARGET_TRIPLE=${BITNET_TARGET_TRIPLE}
      -DPROFILE=${CMAKE_BUILD_TYPE}
      "-DCUDA_VERSION=${BITNET_CUDA_VERSION}"
      -P ${script}
    DEPENDS bitnet_git_state ${state} ${script} ${ARG_LIBRARIES}
    VERBATIM)
  add_library(${target} STATIC ${source})
  target_link_libraries(${target} PUBLIC bitnet_options)
endfunction()

execute_process(COMMAND ${CMAKE_CXX_COMPILER} -dumpmachine
  OUTPUT_VARIABLE BITNET_TARGET_TRIPLE OUTPUT_STRIP_TRAILING_WHITESPACE)
