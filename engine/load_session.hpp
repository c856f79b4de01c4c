#pragma once

#include "engine/error.hpp"
#include "engine/gguf.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace bitnet::engine {

/// Memory of one loading thread, reused from slice to slice.
class load_scratch {
 public:
  /// At least `count` elements; what a previous call returned is lost.
  std::span<std::byte> bytes(std::size_t count) { return grown(bytes_, count); }
  std::span<std::int8_t> weights(std::size_t count) { return grown(weights_, count); }
  std::span<float> values(std::size_t count) { return grown(values_, count); }

 private:
  template <class T>
  static std::span<T> grown(std::vector<T>& buffer, std::size_t count) {
    if (buffer.size() < count) buffer.resize(count);
    return std::span(buffer).first(count);
  }

  std::vector<std::byte> bytes_;
  std::vector<std::int8_t> weights_;
  std::vector<float> values_;
};

/// What one load shares: the file, the threads, progress and warnings. Owned by the loading thread.
class load_session {
 public:
  load_session(const gguf_file& file, std::size_t threads, std::uint64_t total_bytes,
               std::function<void(float)> progress, const std::atomic<bool>* cancelled = nullptr);

  const gguf_file& file() const noexcept { return file_; }

  /// Calls work(scratch, index) for each index in [0, count), on the calling thread and others. Returns the
  /// error of the smallest index that failed: the same at every run, unless it was cancelled. Work must not
  /// throw but std::bad_alloc.
  result<void> parallel(std::size_t count,
                        const std::function<result<void>(load_scratch&, std::size_t)>& work);

  /// Thread-safe. The callback runs on the loading thread, when its next piece of work is done.
  void add_progress(std::uint64_t bytes) noexcept { done_bytes_.fetch_add(bytes, std::memory_order_relaxed); }

  /// Counts tensors of a kind of trouble, so that 210 of them make one warning. From the loading thread.
  void note_requantized(const std::string& tensor);
  void note_implausible(const std::string& tensor);
  std::vector<std::string> warnings() const;

 private:
  struct note {
    std::size_t count = 0;
    std::string first;
  };
  void report_progress();

  const gguf_file& file_;
  std::vector<load_scratch> scratch_;
  std::uint64_t total_bytes_;
  std::atomic<std::uint64_t> done_bytes_{0};
  float reported_ = 0.0F;
  std::function<void(float)> progress_;
  const std::atomic<bool>* cancelled_;  ///< null: never
  note requantized_;
  note implausible_;
};

}  // namespace bitnet::engine
