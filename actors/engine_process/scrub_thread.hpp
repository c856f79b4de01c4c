#pragma once

#include "actors/engine_process/shared_memory.hpp"
#include "engine/model_identity.hpp"

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace bitnet::actors {

/// Checks the weights of this process round and round, at a bounded rate and with the least priority, and
/// tells in `signs` when they are not what they were after loading.
class scrub_thread {
 public:
  /// References must outlive the thread. 0 bytes a second: does nothing.
  scrub_thread(engine::weight_scrubber& scrubber, engine_signs& signs, std::uint64_t bytes_per_second);
  ~scrub_thread();
  scrub_thread(const scrub_thread&) = delete;
  scrub_thread& operator=(const scrub_thread&) = delete;

 private:
  void run(std::uint64_t bytes_per_second);

  engine::weight_scrubber& scrubber_;
  engine_signs& signs_;
  std::mutex mutex_;
  std::condition_variable condition_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bitnet::actors
