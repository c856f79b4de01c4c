# Run in script mode by BuildInfo.cmake; see there.

if(MODE STREQUAL state)
  function(git result)
    execute_process(COMMAND git -C ${SOURCE_DIR} ${ARGN}
      OUTPUT_VARIABLE output ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE code)
    if(NOT code EQUAL 0 OR output STREQUAL "")
      set(output unknown)
    endif()
    set(${result} ${output} PARENT_SCOPE)
  endfunction()

  git(sha rev-parse HEAD)
  git(branch rev-parse --abbrev-ref HEAD)
  execute_process(COMMAND git -C ${SOURCE_DIR} diff-index --quiet HEAD -- RESULT_VARIABLE code ERROR_QUIET OUTPUT_QUIET)
  if(code EQUAL 1)
    string(APPEND sha "-dirty")
  endif()
  set(content "${sha}\n${branch}\n")
  set(previous)
  if(EXISTS ${OUTPUT})
    file(READ ${OUTPUT} previous)
  endif()
  if(NOT content STREQUAL previous)
    file(WRITE ${OUTPUT} "${content}")
  endif()
  return()
endif()

file(STRINGS ${STATE} lines)
list(GET lines 0 sha)
list(GET lines 1 branch)
string(TIMESTAMP built "%Y-%m-%dT%H:%M:%SZ" UTC)  # honours SOURCE_DATE_EPOCH
file(WRITE ${OUTPUT} "// Generated at build time by cmake/GenerateBuildInfo.cmake.
#include \"apps/build_info.hpp\"

namespace bitnet::apps {

const build_info& this_build() noexcept {
  static const build_info info{
      \"${VERSION}\", \"${sha}\", \"${branch}\", \"${built}\", \"${COMPILER}\", \"${TARGET_TRIPLE}\", \"${PROFILE}\", \"${CUDA_VERSION}\"};
  return info;
}

}  // namespace bitnet::apps
")
