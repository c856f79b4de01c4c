# CUDA is found, not required. Sets BITNET_HAVE_CUDA and BITNET_CUDA_VERSION, and defines bitnet_cuda_sources.
#
# BITNET_CUDA: OFF (the default: builds stay quick on machines that happen to have nvcc), ON (an error without
# nvcc) or AUTO (where nvcc is). --preset cuda says AUTO.

set(BITNET_CUDA OFF CACHE STRING "Build the CUDA kernels: ON, OFF, or AUTO where nvcc is found")
set_property(CACHE BITNET_CUDA PROPERTY STRINGS OFF AUTO ON)
# Real code for Turing to Hopper, and PTX of the last for what comes after.
set(BITNET_CUDA_ARCHITECTURES "75-real;80-real;86-real;89-real;90" CACHE STRING
  "CMAKE_CUDA_ARCHITECTURES of the kernels; native: the GPU of this machine")

set(BITNET_HAVE_CUDA OFF)
set(BITNET_CUDA_VERSION "")
if(NOT BITNET_CUDA)
  return()
endif()

include(CheckLanguage)
if(NOT CMAKE_CUDA_COMPILER)
  find_program(nvcc_found nvcc PATHS /usr/local/cuda/bin NO_CACHE)
  if(nvcc_found)
    set(CMAKE_CUDA_COMPILER ${nvcc_found})
  endif()
endif()
set(CMAKE_CUDA_ARCHITECTURES ${BITNET_CUDA_ARCHITECTURES})
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(BITNET_CUDA STREQUAL "AUTO")
    message(STATUS "No CUDA: nvcc was not found; building for the CPU only")
    return()
  endif()
  message(FATAL_ERROR "BITNET_CUDA is ON but nvcc was not found: install the CUDA toolkit, put nvcc into PATH, "
    "or configure with BITNET_CUDA=AUTO or OFF.")
endif()
enable_language(CUDA)
# CMake 3.25 does not know that nvcc can do C++20.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
# Static, and no link to the driver: one program runs on machines with and without it.
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(BITNET_HAVE_CUDA ON)
string(REGEX MATCH "^[0-9]+\\.[0-9]+" BITNET_CUDA_VERSION "${CMAKE_CUDA_COMPILER_VERSION}")
message(STATUS "CUDA ${BITNET_CUDA_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
