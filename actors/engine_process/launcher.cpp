#include "actors/engine_process/launcher.hpp"

#include "actors/descriptor.hpp"
#include "actors/engine_process/loader.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace bitnet::actors {

namespace {

launcher::outcome spawn(const std::filesystem::path& program, int control, int signs) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  // One of the originals may have the number that the other one is to get: take copies out of the way.
  const descriptor high_control(fcntl(control, F_DUPFD_CLOEXEC, loader_signs_fd + 1));
  const descriptor high_signs(fcntl(signs, F_DUPFD_CLOEXEC, loader_signs_fd + 1));
  posix_spawn_file_actions_adddup2(&files, high_control.get(), loader_control_fd);
  posix_spawn_file_actions_adddup2(&files, high_signs.get(), loader_signs_fd);
  posix_spawn_file_actions_addclosefrom_np(&files, loader_signs_fd + 1);

  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);

  const std::string path = program.string();
  char* const arguments[] = {const_cast<char*>("bitnet-worker"), nullptr};
  launcher::outcome made;
  made.error = posix_spawn(&made.pid, path.c_str(), &files, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return made;
}

}  // namespace

launcher::launcher() : thread_([this] { run(); }) {}

launcher::~launcher() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

launcher::outcome launcher::start(const std::filesystem::path& program, int control, int signs) {
  const std::lock_guard one(callers_);
  std::unique_lock lock(mutex_);
  result_.reset();
  job_ = [&] { return spawn(program, control, signs); };
  changed_.notify_all();
  changed_.wait(lock, [this] { return result_.has_value(); });
  return *result_;
}

void launcher::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || job_; });
    if (stop_) return;
    result_ = std::exchange(job_, nullptr)();
    changed_.notify_all();
  }
}

}  // namespace bitnet::actors
