#include "kernels/cuda/runtime.hpp"

#include <cuda_runtime.h>

#include <exception>
#include <utility>

namespace bitnet::kernels::cuda {

namespace {

/// The runtime keeps a failed call's status until it is asked for, and the next launch would take it for its
/// own.
void forget_last_error() noexcept {
  static_cast<void>(cudaGetLastError());
}

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  forget_last_error();
  throw device_error(classify(status), std::string(what) + ": " + cudaGetErrorName(status) + " (" +
                                           cudaGetErrorString(status) + ")");
}

cudaStream_t native(void* handle) noexcept {
  return static_cast<cudaStream_t>(handle);
}

}  // namespace

fault classify(int cuda_error) noexcept {
  switch (cuda_error) {
    case cudaErrorMemoryAllocation:
      return fault::out_of_memory;
    case cudaErrorInitializationError:
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      return fault::unusable;
    // "This leaves the process in an inconsistent state and any further CUDA work will return the same
    // error."
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorExternalDevice:
    case cudaErrorUnknown:
      return fault::sticky;
    default:
      return fault::other;
  }
}

device_list list_devices() {
  device_list list;
  int count = 0;
  if (const auto status = cudaGetDeviceCount(&count); status != cudaSuccess) {
    forget_last_error();
    list.problem = cudaGetErrorString(status);
    return list;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p{};
    char bus[32] = {};
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) {
      forget_last_error();
      continue;
    }
    if (cudaDeviceGetPCIBusId(bus, sizeof(bus), i) != cudaSuccess) {
      forget_last_error();
      bus[0] = 0;
    }
    list.devices.push_back({.index = i,
                            .name = p.name,
                            .compute_major = p.major,
                            .compute_minor = p.minor,
                            .total_bytes = p.totalGlobalMem,
                            .multiprocessors = p.multiProcessorCount,
                            .pci_bus_id = bus});
  }
  if (list.devices.empty()) list.problem = "the driver shows no device";
  return list;
}

std::string runtime_version() {
  return std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
}

void use_device(int index) {
  check(cudaSetDevice(index), "choosing the device");
  check(cudaFree(nullptr), "making a context on the device");
}

void make_current(int index) {
  check(cudaSetDevice(index), "choosing the device");
}

memory_figures device_memory() {
  memory_figures m;
  check(cudaMemGetInfo(&m.free_bytes, &m.total_bytes), "asking for the free memory");
  return m;
}

device_buffer::device_buffer(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  check(cudaMalloc(&data_, bytes), "taking device memory");
  auto status = cudaMemset(data_, 0, bytes);
  // Our streams do not wait for this one: without a wait, zeros could come after what a stream copies here.
  if (status == cudaSuccess) status = cudaStreamSynchronize(nullptr);
  if (status != cudaSuccess) {
    cudaFree(std::exchange(data_, nullptr));
    check(status, "zeroing device memory");
  }
}
device_buffer::~device_buffer() {
  if (data_ != nullptr) cudaFree(data_);
}
device_buffer::device_buffer(device_buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
device_buffer& device_buffer::operator=(device_buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

pinned_buffer::pinned_buffer(std::size_t bytes) {
  if (bytes != 0) check(cudaMallocHost(&data_, bytes), "taking pinned memory");
}
pinned_buffer::~pinned_buffer() {
  if (data_ != nullptr) cudaFreeHost(data_);
}
pinned_buffer::pinned_buffer(pinned_buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
pinned_buffer& pinned_buffer::operator=(pinned_buffer&& other) noexcept {
  std::swap(data_, other.data_);
  return *this;
}

stream::stream() {
  cudaStream_t made = nullptr;
  check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "making a stream");
  handle_ = made;
}
stream::~stream() {
  if (handle_ != nullptr) cudaStreamDestroy(native(handle_));
}
void stream::copy_to_device(void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, native(handle_)), "copying to the device");
}
void stream::copy_to_host(void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, native(handle_)), "copying from the device");
}
void stream::fill_zero(void* at, std::size_t bytes) {
  check(cudaMemsetAsync(at, 0, bytes, native(handle_)), "zeroing device memory");
}
bool stream::finished() {
  const auto status = cudaStreamQuery(native(handle_));
  if (status == cudaErrorNotReady) {
    forget_last_error();
    return false;
  }
  check(status, "running kernels");
  return true;
}
void stream::wait() {
  check(cudaStreamSynchronize(native(handle_)), "running kernels");
}

graph::graph(stream& on, const std::function<void()>& record) {
  check(cudaStreamBeginCapture(native(on.handle()), cudaStreamCaptureModeThreadLocal), "recording a graph");
  cudaGraph_t recorded = nullptr;
  try {
    record();
  } catch (...) {
    // Capture has to end before the stream is of use again.
    if (cudaStreamEndCapture(native(on.handle()), &recorded) == cudaSuccess) cudaGraphDestroy(recorded);
    throw;
  }
  check(cudaStreamEndCapture(native(on.handle()), &recorded), "recording a graph");
  cudaGraphExec_t made = nullptr;
  const auto status = cudaGraphInstantiate(&made, recorded, 0);
  cudaGraphDestroy(recorded);
  check(status, "building a graph");
  executable_ = made;
}
graph::~graph() {
  if (executable_ != nullptr) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}
graph::graph(graph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)) {}
graph& graph::operator=(graph&& other) noexcept {
  std::swap(executable_, other.executable_);
  return *this;
}
void graph::launch(stream& on) const {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), native(on.handle())), "launching a graph");
}

}  // namespace bitnet::kernels::cuda
