#include "actors/engine_process/loader.hpp"

#include "actors/engine_process/engine_loop.hpp"
#include "actors/engine_process/frame_channel.hpp"
#include "actors/engine_process/pidfd.hpp"
#include "actors/engine_process/scrub_thread.hpp"
#include "actors/engine_process/shared_memory.hpp"
#include "actors/generation_engine.hpp"
#include "engine/model_identity.hpp"
#include "engine/weight_protection.hpp"

#include <fmt/format.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace bitnet::actors {

namespace {

/// Exit codes beside 0; the server only shows them.
constexpr int exit_failed = 1;
constexpr int exit_orphaned = 3;
/// How long a killed engine may take to vanish before a successor is refused.
constexpr std::chrono::seconds reap_limit{5};

/// The server drains and then ends its processes; what a terminal or a supervisor sends to all of a group is
/// not for us.
void ignore_group_signals() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(number, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

descriptor child_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  return descriptor(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

/// The threads that helped to load were joined, but the kernel may still be taking them down; and whoever
/// forks beside another thread leaves its locks locked for ever. Gives up after a while: some tools
/// (ThreadSanitizer) have a thread of their own.
void wait_until_alone() {
  for (int i = 0; i < 200; ++i) {
    std::error_code problem;
    const auto tasks = std::filesystem::directory_iterator("/proc/self/task", problem);
    if (problem || std::distance(begin(tasks), end(tasks)) == 1) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

class loader {
 public:
  loader(descriptor control, shared_object<loader_signs> signs, device_opener open_device)
      : channel_(std::move(control)),
        signs_(std::move(signs)),
        open_device_(std::move(open_device)),
        child_ended_(child_signal()) {}

  int run() {
    while (channel_.status() == frame_channel::state::open) {
      channel_.receive();
      while (auto f = channel_.next()) obey(*f);
      reap();
      if (channel_.status() != frame_channel::state::open) break;
      signs_->beats.fetch_add(1, std::memory_order_relaxed);
      signs_->busy.store(false, std::memory_order_relaxed);
      channel_.wait(std::chrono::milliseconds(1000), child_ended_.get());
      signs_->busy.store(true, std::memory_order_relaxed);
    }
    for (auto& [device, pid] : engines_) kill(pid, SIGKILL);
    for (auto& device : running_devices()) kill_engine(device);
    return 0;
  }

 private:
  void send(frame_kind kind, std::span<const int> descriptors = {}) {
    channel_.send(kind, out_.bytes(), descriptors);
    out_.clear();
  }
  void refuse(engine::error_code code, std::string why) {
    write(out_, engine::error{code, std::move(why)});
    send(frame_kind::refused);
  }

  void obey(const frame& f) {
    switch (f.kind) {
      case frame_kind::load:
        return load(f);
      case frame_kind::spawn:
        return spawn(f);
      case frame_kind::corrupt:
        return corrupt(f);
      default:
        return refuse(engine::error_code::internal, "The loader does not know this message.");
    }
  }

  void load(const frame& f);
  void spawn(const frame& f);
  void corrupt(const frame& f);
  void reap();
  std::optional<std::string> find_changed();
  std::vector<std::string> running_devices() const;
  bool kill_engine(const std::string& device);
  engine::result<std::unique_ptr<inference_engine>> build_engine(const spawn_command& command,
                                                                 engine_signs& signs);
  [[noreturn]] void become_engine(const spawn_command& command, descriptor socket, descriptor signs);

  frame_channel channel_;
  shared_object<loader_signs> signs_;
  device_opener open_device_;
  descriptor child_ended_;
  byte_writer out_;
  std::shared_ptr<const engine::model> model_;
  std::optional<engine::weight_scrubber> scrubber_;
  std::map<std::string, pid_t> engines_;  ///< those that run, by device
};

void loader::load(const frame& f) {
  load_command command;
  if (model_ || !decode(f.payload, command))
    return refuse(engine::error_code::internal,
                  "The loader was told to load twice, or something unreadable.");
  engine::load_options options;
  options.threads = command.threads;
  options.head = command.head;
  options.screen_head = command.screen_head;
  options.decode = command.decode;
  options.isa = command.isa;
  options.warn = [this](const std::string& sentence) {
    out_.put(sentence);
    send(frame_kind::warning);
  };
  options.progress = [this](float fraction) {
    signs_->load_progress.store(fraction, std::memory_order_relaxed);
    // Nobody waits for the result when the server is gone.
    channel_.receive();
    if (channel_.status() != frame_channel::state::open) _exit(exit_orphaned);
  };
  auto loaded = engine::load_model(command.path, options);
  if (!loaded) return refuse(loaded.error().code, loaded.error().message);
  if ((*loaded)->identity != command.file)
    return refuse(engine::error_code::internal,
                  fmt::format("The file {} was changed while it was being loaded.", command.path));
  model_ = std::move(*loaded);
  scrubber_.emplace(*model_->weights);
  engine::protect_weights(*model_->weights);
  send(frame_kind::loaded);
}

void loader::spawn(const frame& f) {
  descriptor socket = channel_.next_descriptor();
  descriptor signs = channel_.next_descriptor();
  spawn_command command;
  if (!model_ || !signs || !decode(f.payload, command))
    return refuse(engine::error_code::internal, "The loader was told to start something unreadable.");
  if (!kill_engine(command.device))
    return refuse(engine::error_code::internal,
                  fmt::format("The engine process {} does not end although it was killed (a device that does "
                              "not answer?); restart the machine.",
                              engines_.at(command.device)));
  if (command.verify)
    if (const auto region = find_changed())
      return refuse(engine::error_code::internal,
                    fmt::format("The weights {} changed in the memory that engines come from.", *region));
  wait_until_alone();
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0)
    return refuse(
        engine::error_code::out_of_memory,
        fmt::format("The system gives no more processes ({}); raise its limit.", ::strerror(errno)));
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(exit_orphaned);  // it died before the line above
    become_engine(command, std::move(socket), std::move(signs));
  }
  engines_[command.device] = pid;
  // Before it can be reaped: the number cannot mean another process.
  const descriptor process(pidfd_open(pid, 0));
  if (!process) {
    const auto why = fmt::format(
        "The system gives no descriptor for a process ({}); use "
        "--engine.isolation=thread.",
        ::strerror(errno));
    kill_engine(command.device);
    return refuse(engine::error_code::internal, why);
  }
  out_.put(static_cast<std::uint32_t>(pid));
  const int fd = process.get();
  send(frame_kind::spawned, std::span(&fd, 1));
}

void loader::corrupt(const frame& f) {
  corrupt_command command;
  if (!model_ || !decode(f.payload, command))
    return refuse(engine::error_code::internal, "The loader was told to corrupt something unreadable.");
  const auto flipped = engine::flip_weight_bit(*model_->weights, command.region, command.offset);
  if (!flipped) return refuse(flipped.error().code, flipped.error().message);
  out_.put(*flipped);
  send(frame_kind::corrupted);
}

void loader::reap() {
  signalfd_siginfo ignored;
  while (::read(child_ended_.get(), &ignored, sizeof ignored) > 0) {
  }
  for (auto one = engines_.begin(); one != engines_.end();) {
    const pid_t pid = one->second;
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) != pid) {
      ++one;
      continue;
    }
    one = engines_.erase(one);
    write(out_, exit_report{static_cast<std::uint32_t>(pid), status});
    send(frame_kind::exited);
  }
}

std::vector<std::string> loader::running_devices() const {
  std::vector<std::string> devices;
  for (const auto& [device, pid] : engines_) devices.push_back(device);
  return devices;
}

/// Checks all weights once: 0.1 ms a MB.
std::optional<std::string> loader::find_changed() {
  constexpr std::size_t slice = std::size_t{16} << 20;
  const auto rounds = scrubber_->completed_rounds();
  while (scrubber_->completed_rounds() == rounds)
    if (auto region = scrubber_->step(slice)) return region;
  return std::nullopt;
}

/// True when no engine runs on the device any more.
bool loader::kill_engine(const std::string& device) {
  reap();
  if (const auto one = engines_.find(device); one != engines_.end()) kill(one->second, SIGKILL);
  const auto deadline = std::chrono::steady_clock::now() + reap_limit;
  for (reap(); engines_.contains(device); reap()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// In the engine's process.
engine::result<std::unique_ptr<inference_engine>> loader::build_engine(const spawn_command& command,
                                                                       engine_signs& signs) {
  auto options = command.options;
  options.progress = &signs.progress;
  if (!command.device.empty()) {
    auto device = open_device_(command.device);
    if (!device) return tl::unexpected(std::move(device.error()));
    options.device = std::move(*device);
  }
  return create_generation_engine(model_, options, command.faults ? engine_faults::all : engine_faults::none);
}

void loader::become_engine(const spawn_command& command, descriptor socket, descriptor signs_memory) {
  // Whatever goes wrong from here on ends this process alone, and without the loader's destructors.
  prctl(PR_SET_NAME, "bitnet-engine");
  channel_ = frame_channel(descriptor());  // the control socket is the loader's
  child_ended_.reset();
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  auto signs = shared_object<engine_signs>::open(std::move(signs_memory));
  if (!signs) _exit(exit_failed);
  frame_channel channel(std::move(socket));
  try {
    auto engine = build_engine(command, **signs);
    if (!engine) {
      write(out_, engine.error());
      channel.send(frame_kind::refused, out_.bytes());
      _exit(exit_failed);
    }
    const scrub_thread scrub(*scrubber_, **signs, command.scrub_bytes_per_second);
    serve_engine(channel, **signs, **engine);
  } catch (const std::exception& problem) {
    fmt::print(stderr, "bitnet-engine: {}\n", problem.what());
    _exit(exit_failed);
  }
  _exit(0);
}

}  // namespace

int run_loader(int control_fd, device_opener open_device) {
  ignore_group_signals();
  // The second line of defence: the first is the end of the control socket.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  auto signs = shared_object<loader_signs>::open(descriptor(loader_signs_fd));
  if (!signs) {
    fmt::print(stderr, "bitnet-worker: this program is started by bitnet-server, not by hand\n");
    return exit_failed;
  }
  return loader(descriptor(control_fd), std::move(*signs), std::move(open_device)).run();
}

}  // namespace bitnet::actors
