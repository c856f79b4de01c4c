#pragma once

// Enough of CUDA C++ to compile kernels/cuda as ordinary C++ and to run its kernels on a CPU: a thread of a
// block is a coroutine, barriers and warp functions switch between them. Blocks and threads run in an order
// that alternates between launches, so that a missing barrier shows in one of two runs. What is not emulated:
// memory that is cached or ordered as a device's, and time.

#define BITNET_CUDA_EMULATION 1

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  constexpr dim3() = default;
  constexpr dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
inline int4 make_int4(int x, int y, int z, int w) {
  return {x, y, z, w};
}

namespace cuda_emulation {

struct thread_place {
  dim3 thread, block, block_size, grid_size;
};
/// Of the thread that runs.
const thread_place& place() noexcept;

void block_barrier();
/// Exchanges a word between the lanes of a warp: every lane gives one and gets that of lane `from`.
std::uint32_t exchange(std::uint32_t word, unsigned from);
/// All lanes' words at once: `all` gets 32 times `count` words, lane after lane.
void gather(const std::uint32_t* words, unsigned count, std::uint32_t* all);
unsigned lane() noexcept;

/// Asynchronous copies take place when they are waited for, not before.
void copy_later(void* to, const void* from, std::size_t bytes);
void commit_copies();
void finish_copies(std::size_t pending_groups);

/// Runs, or records where a graph is being recorded.
void run_kernel(dim3 grid, dim3 block, std::function<void()> body);

/// What the next calls of the runtime do; for tests of errors.
struct faults {
  int next_call = 0;     ///< error of the next malloc, stream query or graph; 0: none
  bool hangs = false;    ///< streams never finish
  int device_count = 1;  ///< 0: cudaErrorNoDevice
  std::size_t free_bytes = std::size_t{4} << 30;
  std::uint64_t launches = 0;  ///< kernels run so far
  std::uint64_t graph_launches = 0;
  std::uint64_t allocations = 0;
};
faults& injected() noexcept;

}  // namespace cuda_emulation

#define threadIdx (cuda_emulation::place().thread)
#define blockIdx (cuda_emulation::place().block)
#define blockDim (cuda_emulation::place().block_size)
#define gridDim (cuda_emulation::place().grid_size)

using std::max;
using std::min;

inline void __syncthreads() {
  cuda_emulation::block_barrier();
}
inline void __syncwarp() {
  cuda_emulation::exchange(0, 0);
}
template <class T>
T __shfl_xor_sync(std::uint32_t, T value, int distance) {
  static_assert(sizeof(T) == 4);
  std::uint32_t word = 0;
  std::memcpy(&word, &value, 4);
  word = cuda_emulation::exchange(word, cuda_emulation::lane() ^ static_cast<unsigned>(distance));
  std::memcpy(&value, &word, 4);
  return value;
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i)
    c += static_cast<std::int8_t>(a >> 8 * i) * static_cast<std::int8_t>(b >> 8 * i);
  return c;
}
template <class T>
T __ldg(const T* p) {
  return *p;
}
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline float __uint_as_float(std::uint32_t bits) {
  float x = 0;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline std::uint32_t __float_as_uint(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, 4);
  return bits;
}

// The runtime's functions that kernels/cuda/runtime.cu calls.

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorECCUncorrectable = 214,
  cudaErrorNvlinkUncorrectable = 220,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchTimeout = 702,
  cudaErrorAssert = 710,
  cudaErrorHardwareStackError = 714,
  cudaErrorIllegalInstruction = 715,
  cudaErrorMisalignedAddress = 716,
  cudaErrorInvalidAddressSpace = 717,
  cudaErrorInvalidPc = 718,
  cudaErrorLaunchFailure = 719,
  cudaErrorSystemNotReady = 802,
  cudaErrorSystemDriverMismatch = 803,
  cudaErrorCompatNotSupportedOnDevice = 804,
  cudaErrorExternalDevice = 911,
  cudaErrorUnknown = 999,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
using cudaStream_t = void*;
using cudaGraph_t = void*;
using cudaGraphExec_t = void*;
struct cudaDeviceProp {
  char name[256];
  int major, minor;
  std::size_t totalGlobalMem;
  int multiProcessorCount;
};
constexpr unsigned cudaStreamNonBlocking = 1;
#define CUDART_VERSION 13000

const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes);
cudaError_t cudaMalloc(void** p, std::size_t bytes);
cudaError_t cudaFree(void* p);
cudaError_t cudaMallocHost(void** p, std::size_t bytes);
cudaError_t cudaFreeHost(void* p);
cudaError_t cudaMemset(void* p, int value, std::size_t bytes);
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned flags);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
