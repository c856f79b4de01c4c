# What every target of ours is compiled with.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

option(BITNET_WARNINGS_AS_ERRORS "Treat warnings in our own code as errors" ON)
set(BITNET_SANITIZERS "" CACHE STRING "Sanitizers for -fsanitize=, for example address,undefined")
# Seconds that one test may take before ctest ends it: what hangs, not what is slow. Instrumented code is slow.
set(BITNET_TEST_TIMEOUT 600)
if(BITNET_SANITIZERS)
  set(BITNET_TEST_TIMEOUT 3000)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(bitnet_options INTERFACE)
target_include_directories(bitnet_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
# No contraction: a fused multiply-add happens exactly where the code says so (docs/kernels.md, determinism).
set(host_options
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough
  $<$<BOOL:${BITNET_WARNINGS_AS_ERRORS}>:-Werror> -ffp-contract=off)
set(device_options
  -fmad=false --expt-relaxed-constexpr -lineinfo -Xcompiler=-Wall,-Wextra,-ffp-contract=off
  $<$<BOOL:${BITNET_WARNINGS_AS_ERRORS}>:-Werror=all-warnings>)
target_compile_options(bitnet_options INTERFACE
  "$<$<COMPILE_LANGUAGE:C,CXX>:${host_options}>" "$<$<COMPILE_LANGUAGE:CUDA>:${device_options}>")

if(BITNET_SANITIZERS)
  add_compile_options(
    "$<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${BITNET_SANITIZERS};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  if(BITNET_SANITIZERS MATCHES thread)
    # ThreadSanitizer does not know fences, and GCC warns of that. Ours stand between atomics, so it misses nothing.
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-tsan>)
  endif()
  add_link_options(-fsanitize=${BITNET_SANITIZERS})
endif()
