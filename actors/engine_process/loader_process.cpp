#include "actors/engine_process/loader_process.hpp"

#include "actors/engine_process/pidfd.hpp"

#include <fmt/format.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <thread>
#include <utility>

namespace bitnet::actors {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A fork takes milliseconds; on a machine that is out of memory it takes a while.
constexpr seconds spawn_limit{15};
/// For KV cache and buffers.
constexpr seconds build_limit{120};
constexpr seconds corrupt_limit{5};
/// The loader learns of its engine's end at the same moment as we do.
constexpr milliseconds exit_report_limit{500};
constexpr milliseconds wait_slice{100};
constexpr milliseconds kill_limit{5000};

bool is_over(const descriptor& process) noexcept {
  pollfd ended{process.get(), POLLIN, 0};
  return poll(&ended, 1, 0) != 0;
}

}  // namespace

std::string describe_exit(int status) {
  if (!WIFSIGNALED(status)) return fmt::format("ended with code {}", WEXITSTATUS(status));
  const auto* name = sigabbrev_np(WTERMSIG(status));
  return fmt::format("was killed by signal {} (SIG{})", WTERMSIG(status), name == nullptr ? "?" : name);
}

engine::result<std::shared_ptr<loader_process>> loader_process::start(launcher& starter,
                                                                      const std::filesystem::path& program) {
  const auto no = [](std::string why) { return engine::fail(engine::error_code::internal, std::move(why)); };
  auto sockets = frame_channel::make_pair();
  auto signs = shared_object<loader_signs>::create();
  if (!sockets || !signs)
    return no(
        fmt::format("The system gives no more descriptors ({}); raise their limit.", ::strerror(errno)));
  const auto made = starter.start(program, sockets->second.get(), signs->file());
  if (made.error != 0)
    return no(fmt::format("cannot start {}: {}; set engine.worker-binary, or engine.isolation=thread",
                          program.string(), ::strerror(made.error)));
  descriptor process(pidfd_open(made.pid, 0));
  if (!process) {
    const auto why = errno;
    kill(made.pid, SIGKILL);
    waitpid(made.pid, nullptr, 0);
    return no(fmt::format("The system gives no descriptor for a process ({}); use engine.isolation=thread.",
                          ::strerror(why)));
  }
  return std::shared_ptr<loader_process>(
      new loader_process(std::move(sockets->first), std::move(*signs), std::move(process), made.pid));
}

loader_process::loader_process(descriptor control, shared_object<loader_signs> signs, descriptor process,
                               pid_t pid)
    : channel_(std::move(control)), signs_(std::move(signs)), process_(std::move(process)), pid_(pid) {}

loader_process::~loader_process() {
  stop();
}

void loader_process::stop() noexcept {
  // The engine asked to be killed with its parent.
  pidfd_send_signal(process_.get(), SIGKILL, nullptr, 0);
  const std::lock_guard lock(mutex_);
  if (reaped_) return;
  pollfd ended{process_.get(), POLLIN, 0};
  poll(&ended, 1, static_cast<int>(kill_limit.count()));  // a process in the kernel's hands may take its time
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == pid_) ended_ = describe_exit(status);
  reap();
}

/// After the loader's own end: its engines are our children now, should we be their nearest subreaper.
void loader_process::reap() noexcept {
  reaped_ = true;
  std::map<std::string, pid_t> left;
  {
    const std::lock_guard lock(engines_mutex_);
    left.swap(engines_);
  }
  for (const auto& [device, engine] : left)
    for (int i = 0; i < 100 && waitpid(engine, nullptr, WNOHANG) == 0; ++i)
      std::this_thread::sleep_for(milliseconds(5));
}

std::vector<pid_t> loader_process::engine_pids() const {
  const std::lock_guard lock(engines_mutex_);
  std::vector<pid_t> pids;
  for (const auto& [device, engine] : engines_) pids.push_back(engine);
  return pids;
}

/// The engine runs on without its loader, but its successor would not come.
void loader_process::kill_if_silent() {
  if (signs_->busy.load(std::memory_order_relaxed)) return silence_.excuse();
  if (!silence_.update(signs_->beats.load(std::memory_order_relaxed), std::chrono::steady_clock::now()))
    return;
  silence_.excuse();
  killed_because_.store("showed no sign of life and", std::memory_order_relaxed);
  pidfd_send_signal(process_.get(), SIGKILL, nullptr, 0);
}

std::optional<std::string> loader_process::ended() {
  if (!is_over(process_)) {
    kill_if_silent();
    return std::nullopt;
  }
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return "ended";
  int status = 0;
  if (!reaped_ && waitpid(pid_, &status, WNOHANG) == pid_) {
    ended_ = describe_exit(status);
    reap();
  }
  const auto* const why = killed_because_.load(std::memory_order_relaxed);
  return (why == nullptr ? "" : std::string(why) + " ") + ended_.value_or("ended");
}

bool loader_process::running() const noexcept {
  return !is_over(process_);
}

/// Frames that may come at any time; false for others.
bool loader_process::take(const frame& f, const engine::load_options* options) {
  if (f.kind == frame_kind::warning) {
    byte_reader in(f.payload);
    const auto sentence = in.get_string();
    if (options != nullptr && options->warn) options->warn(sentence);
    return true;
  }
  exit_report report;
  if (f.kind != frame_kind::exited || !decode(f.payload, report)) return false;
  const auto pid = static_cast<pid_t>(report.pid);
  ends_[pid] = report.status;
  while (ends_.size() > 16) ends_.erase(ends_.begin());
  const std::lock_guard lock(engines_mutex_);
  std::erase_if(engines_, [pid](const auto& one) { return one.second == pid; });
  return true;
}

/// Sends what is in `out_`. The caller holds the mutex.
engine::result<frame> loader_process::ask(frame_kind question, frame_kind answer,
                                          std::optional<milliseconds> limit, std::span<const int> descriptors,
                                          const engine::load_options* load) {
  const bool sent = channel_.send(question, out_.bytes(), descriptors, [this] { return !is_over(process_); });
  out_.clear();
  const auto asked_at = std::chrono::steady_clock::now();
  while (sent) {
    channel_.receive();
    while (auto f = channel_.next()) {
      if (f->kind == answer) return std::move(*f);
      engine::error why{engine::error_code::internal, {}};
      if (f->kind == frame_kind::refused && decode(f->payload, why)) return tl::unexpected(std::move(why));
      take(*f, load);
    }
    if (channel_.status() != frame_channel::state::open) break;
    if (load != nullptr && load->cancelled != nullptr && load->cancelled->load(std::memory_order_relaxed))
      return engine::fail(engine::error_code::internal, "the load was cancelled");
    if (load != nullptr && load->progress)
      load->progress(signs_->load_progress.load(std::memory_order_relaxed));
    if (limit && std::chrono::steady_clock::now() - asked_at > *limit) {
      // It will not get better; its end makes the model be loaded again.
      killed_because_.store("did not answer and", std::memory_order_relaxed);
      pidfd_send_signal(process_.get(), SIGKILL, nullptr, 0);
      return engine::fail(engine::error_code::internal,
                          fmt::format("bitnet-worker did not answer within {} s.", limit->count() / 1000));
    }
    channel_.wait(wait_slice, process_.get());
  }
  return engine::fail(engine::error_code::internal,
                      fmt::format("The process that holds the weights is gone ({}).",
                                  channel_.problem().empty() ? "it ended" : channel_.problem()));
}

engine::result<void> loader_process::load(const engine::model& described,
                                          const engine::load_options& options) {
  const std::lock_guard lock(mutex_);
  write(out_, load_command{described.path.string(), described.identity, options.threads, options.head,
                           options.screen_head, options.decode, options.isa});
  const auto done = ask(frame_kind::load, frame_kind::loaded, std::nullopt, {}, &options);
  if (!done) return tl::unexpected(done.error());
  if (options.progress) options.progress(1.0F);
  return {};
}

engine::result<std::unique_ptr<process_engine>> loader_process::start_engine(
    std::shared_ptr<const engine::model> model, const spawn_command& command) {
  std::optional<engine_connection> connection;
  {
    const std::lock_guard lock(mutex_);
    auto sockets = frame_channel::make_pair();
    auto signs = shared_object<engine_signs>::create();
    if (!sockets || !signs)
      return engine::fail(
          engine::error_code::out_of_memory,
          fmt::format("The system gives no more descriptors ({}); raise their limit.", ::strerror(errno)));
    auto checked = command;
    checked.verify = std::any_of(last_signs_.begin(), last_signs_.end(), [](const auto& one) {
      return one.second->corrupted.load(std::memory_order_acquire);
    });
    write(out_, checked);
    const std::array<int, 2> handed{sockets->second.get(), signs->file()};
    const auto answer = ask(frame_kind::spawn, frame_kind::spawned, spawn_limit, handed, nullptr);
    if (!answer) return tl::unexpected(answer.error());
    byte_reader in(answer->payload);
    const auto pid = static_cast<pid_t>(in.get<std::uint32_t>());
    auto process = channel_.next_descriptor();
    if (!in.complete() || !process)
      return engine::fail(engine::error_code::internal, "bitnet-worker gave no process to hold on to.");
    {
      const std::lock_guard of_engines(engines_mutex_);
      engines_[command.device] = pid;
    }
    last_signs_.erase(command.device);
    if (auto again = shared_object<engine_signs>::open(descriptor(fcntl(signs->file(), F_DUPFD_CLOEXEC, 0))))
      last_signs_.emplace(command.device, std::move(*again));
    // The engine's owner may outlive this object by a moment.
    auto exit_reason = [self = weak_from_this(), pid] {
      const auto loader = self.lock();
      return loader ? loader->engine_end(pid) : std::string("ended");
    };
    connection.emplace(engine_connection{std::move(sockets->first), std::move(*signs), std::move(process),
                                         pid, std::move(exit_reason)});
  }
  return process_engine::connect(std::move(*connection), std::move(model), command.options, build_limit);
}

std::string loader_process::engine_end(pid_t pid) {
  const std::lock_guard lock(mutex_);
  const auto deadline = std::chrono::steady_clock::now() + exit_report_limit;
  while (!ends_.contains(pid) && channel_.status() == frame_channel::state::open &&
         std::chrono::steady_clock::now() < deadline) {
    channel_.receive();
    while (auto f = channel_.next()) take(*f, nullptr);
    if (!ends_.contains(pid)) channel_.wait(milliseconds(20), -1);
  }
  const auto found = ends_.find(pid);
  return found == ends_.end() ? "ended" : describe_exit(found->second);
}

engine::result<std::string> loader_process::corrupt(const corrupt_command& command) {
  const std::lock_guard lock(mutex_);
  write(out_, command);
  const auto done = ask(frame_kind::corrupt, frame_kind::corrupted, corrupt_limit, {}, nullptr);
  if (!done) return tl::unexpected(done.error());
  byte_reader in(done->payload);
  return in.get_string();
}

}  // namespace bitnet::actors
