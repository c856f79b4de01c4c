#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

namespace bitnet::actors {

/// Starts programs from a thread that lives as long as this object. The kernel kills a child that asked for
/// it (PR_SET_PDEATHSIG) when the thread that started it ends, not the process.
class launcher {
 public:
  launcher();
  ~launcher();
  launcher(const launcher&) = delete;
  launcher& operator=(const launcher&) = delete;

  /// Starts `program` with /dev/null as its input, this process's output and error streams, `control` as
  /// descriptor 3, `signs` as descriptor 4 and nothing else open, and the default signal mask. Blocks until
  /// it runs. The process id, or the error number.
  struct outcome {
    pid_t pid = 0;
    int error = 0;
  };
  outcome start(const std::filesystem::path& program, int control, int signs);

 private:
  void run();

  std::mutex callers_;  ///< one start at a time
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<outcome()> job_;
  std::optional<outcome> result_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bitnet::actors
