#pragma once

#include "actors/engine_process/frame_channel.hpp"
#include "actors/engine_process/launcher.hpp"
#include "actors/engine_process/process_engine.hpp"
#include "actors/engine_process/shared_memory.hpp"
#include "actors/engine_process/standstill.hpp"
#include "engine/error.hpp"
#include "engine/model.hpp"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::actors {

/// The server's hold on a bitnet-worker process that has a model's weights, and on the engines that the
/// process has forked, one a device. Any thread; calls that talk to the process take turns.
class loader_process : public std::enable_shared_from_this<loader_process> {
 public:
  /// Starts the program; it does nothing yet.
  static engine::result<std::shared_ptr<loader_process>> start(launcher& starter,
                                                               const std::filesystem::path& program);
  /// Kills what is left and reaps it.
  ~loader_process();
  loader_process(const loader_process&) = delete;
  loader_process& operator=(const loader_process&) = delete;

  /// Blocks while the process loads, seconds on large models.
  engine::result<void> load(const engine::model& described, const engine::load_options& options);

  /// Forks an engine process and waits until its engine is built. An earlier engine on the same device is
  /// killed first: there may not be memory for two.
  engine::result<std::unique_ptr<process_engine>> start_engine(std::shared_ptr<const engine::model> model,
                                                               const spawn_command& command);

  /// Flips a bit of the weights that later engines get. For drills.
  engine::result<std::string> corrupt(const corrupt_command& command);

  /// Ends the process and its engine now. Later calls fail.
  void stop() noexcept;

  /// How the process ended; nothing while it runs. Never waits. To be asked at least once a second by one
  /// thread: a process that gives no sign of life is killed here, since no engine could be started any more.
  std::optional<std::string> ended();

  /// Likewise, and reaps nothing.
  bool running() const noexcept;

  pid_t pid() const noexcept { return pid_; }
  /// Of the engines whose end is not known, by the names of their devices. A short lock.
  std::vector<pid_t> engine_pids() const;

 private:
  loader_process(descriptor control, shared_object<loader_signs> signs, descriptor process, pid_t pid);

  /// Without a limit it waits for the answer, the end of the process or the load's cancellation.
  engine::result<frame> ask(frame_kind question, frame_kind answer,
                            std::optional<std::chrono::milliseconds> limit, std::span<const int> descriptors,
                            const engine::load_options* progress);
  bool take(const frame& f, const engine::load_options* options);
  std::string engine_end(pid_t pid);
  void reap() noexcept;
  void kill_if_silent();

  std::mutex mutex_;
  frame_channel channel_;
  shared_object<loader_signs> signs_;
  descriptor process_;  ///< pidfd of the loader
  const pid_t pid_;
  mutable std::mutex engines_mutex_;      ///< of the next
  std::map<std::string, pid_t> engines_;  ///< by device
  byte_writer out_;
  std::map<std::string, shared_object<engine_signs>> last_signs_;  ///< of the last engine on each device
  std::map<pid_t, int> ends_;  ///< of engines, as the loader reported them
  bool reaped_ = false;
  std::optional<std::string> ended_;
  standstill silence_{std::chrono::seconds(10), 5};
  std::atomic<const char*> killed_because_{nullptr};
};

/// "was killed by signal 11 (SIGSEGV)" or "ended with code 1", of a waitpid status.
std::string describe_exit(int status);

}  // namespace bitnet::actors
