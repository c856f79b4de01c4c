#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

// The CUDA runtime without its headers, so that what drives the device compiles as ordinary C++.

namespace bitnet::kernels::cuda {

enum class fault : std::uint8_t {
  out_of_memory,  ///< of the device or of pinned memory; the context is sound
  unusable,       ///< no driver, no device, or one that this build has no code for
  sticky,         ///< the context is lost: every later call of this process fails on this device
  other,          ///< a wrong call: a bug
};

/// A failed call. Thrown, because it ends whatever was under way; the engine turns it into its own errors.
class device_error : public std::runtime_error {
 public:
  device_error(fault kind, const std::string& what) : std::runtime_error(what), kind_(kind) {}
  fault kind() const noexcept { return kind_; }

 private:
  fault kind_;
};

/// Classifies a cudaError_t by its number (stable by NVIDIA's promise).
fault classify(int cuda_error) noexcept;

struct device_info {
  int index = 0;
  std::string name;
  int compute_major = 0;
  int compute_minor = 0;
  std::size_t total_bytes = 0;
  int multiprocessors = 0;
  std::string pci_bus_id{};  ///< as NVML takes it
};

struct device_list {
  std::vector<device_info> devices;
  std::string problem;  ///< why there are none; one clause
};

/// Asks the driver; makes no context, so it takes no device memory. Never throws.
device_list list_devices();

/// "13.0": of the runtime that this build contains.
std::string runtime_version();

/// Makes the device current on this thread, with a context in which one can work.
void use_device(int index);
/// The same for a device that has been used before; costs nothing.
void make_current(int index);

struct memory_figures {
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
};
/// Of the current device.
memory_figures device_memory();

/// Device memory, zeroed. Its destructor gives it back unless `abandon` was called.
class device_buffer {
 public:
  device_buffer() = default;
  explicit device_buffer(std::size_t bytes);
  ~device_buffer();
  device_buffer(device_buffer&& other) noexcept;
  device_buffer& operator=(device_buffer&& other) noexcept;

  std::size_t size() const noexcept { return size_; }
  template <class T>
  T* as() const noexcept {
    return static_cast<T*>(data_);
  }
  /// Leaves the memory to the end of the process: freeing waits for kernels, and one that hangs never ends.
  void abandon() noexcept { data_ = nullptr; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Host memory that the device copies from and to without a stop on the way.
class pinned_buffer {
 public:
  pinned_buffer() = default;
  explicit pinned_buffer(std::size_t bytes);
  ~pinned_buffer();
  pinned_buffer(pinned_buffer&& other) noexcept;
  pinned_buffer& operator=(pinned_buffer&& other) noexcept;

  template <class T>
  T* as() const noexcept {
    return static_cast<T*>(data_);
  }
  void abandon() noexcept { data_ = nullptr; }

 private:
  void* data_ = nullptr;
};

/// Work in order. All functions may throw device_error.
class stream {
 public:
  stream();
  ~stream();
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  void copy_to_device(void* to, const void* from, std::size_t bytes);
  void copy_to_host(void* to, const void* from, std::size_t bytes);
  void fill_zero(void* at, std::size_t bytes);
  /// All work so far is done. Also the place where a kernel's fault shows.
  bool finished();
  void wait();
  void abandon() noexcept { handle_ = nullptr; }
  /// cudaStream_t.
  void* handle() const noexcept { return handle_; }

 private:
  void* handle_ = nullptr;
};

/// Kernel launches recorded once, to be launched together.
class graph {
 public:
  /// `record` launches on `on`; nothing runs.
  graph(stream& on, const std::function<void()>& record);
  ~graph();
  graph(graph&& other) noexcept;
  graph& operator=(graph&& other) noexcept;

  void launch(stream& on) const;
  void abandon() noexcept { executable_ = nullptr; }

 private:
  void* executable_ = nullptr;
};

}  // namespace bitnet::kernels::cuda
