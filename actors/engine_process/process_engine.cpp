#include "actors/engine_process/process_engine.hpp"

#include "actors/engine_process/pidfd.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace bitnet::actors {

namespace {

/// How often a wait looks whether it still makes sense.
constexpr std::chrono::milliseconds wait_slice{200};

}  // namespace

process_engine::process_engine(engine_connection connection, std::shared_ptr<const engine::model> model,
                               const engine::generation_options& options)
    : connection_(std::move(connection)),
      channel_(std::move(connection_.socket)),
      model_(std::move(model)),
      schemas_(model_->tokens.get()),
      capacity_(options.max_sequences + options.max_queued),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      stat_(::open(fmt::format("/proc/{}/stat", connection_.pid).c_str(), O_RDONLY | O_CLOEXEC)) {}

process_engine::~process_engine() {
  give_up();
}

engine::result<std::unique_ptr<process_engine>> process_engine::connect(
    engine_connection connection, std::shared_ptr<const engine::model> model,
    const engine::generation_options& options, std::chrono::milliseconds limit) {
  std::unique_ptr<process_engine> made(new process_engine(std::move(connection), std::move(model), options));
  const auto deadline = std::chrono::steady_clock::now() + limit;
  auto& channel = made->channel_;
  for (;;) {
    channel.receive();
    if (const auto f = channel.next()) {
      if (f->kind == frame_kind::hello && decode(f->payload, made->stats_)) return made;
      engine::error why{engine::error_code::internal, {}};
      if (f->kind == frame_kind::refused && decode(f->payload, why)) return tl::unexpected(std::move(why));
      return engine::fail(engine::error_code::internal, "The engine process began with a wrong message.");
    }
    if (channel.status() != frame_channel::state::open) {
      made->fail(channel.problem());
      return engine::fail(engine::error_code::internal, *made->lost_);
    }
    if (std::chrono::steady_clock::now() > deadline)
      return engine::fail(engine::error_code::internal,
                          fmt::format("The engine process was not ready within {} s.", limit.count() / 1000));
    channel.wait(wait_slice);
  }
}

void process_engine::fail(std::string why) {
  if (lost_) return;
  const bool ended = channel_.status() == frame_channel::state::closed;
  give_up();
  // The end of the socket and that of the process are a few microseconds apart.
  if (ended && connection_.exit_reason) why = connection_.exit_reason();
  lost_ = fmt::format("the engine process {} {}", connection_.pid, why);
  sequences_.clear();
  batches_.clear();
}

std::optional<std::string> process_engine::lost() {
  if (!lost_ && given_up_.load(std::memory_order_relaxed)) fail("was given up: it showed no sign of life");
  if (!lost_ && !alive()) fail(connection_.exit_reason ? connection_.exit_reason() : "ended");
  return lost_;
}

bool process_engine::send(frame_kind kind) {
  const bool sent =
      channel_.send(kind, out_.bytes(), {}, [this] { return !given_up_.load(std::memory_order_relaxed); });
  out_.clear();
  return sent;
}

/// Takes an `events` frame; false where it is another one.
bool process_engine::keep(const frame& f) {
  if (f.kind != frame_kind::events) return false;
  auto& batch = batches_.emplace_back();
  if (!decode(f.payload, batch)) {
    fail("sent events that cannot be read");
    return true;
  }
  stats_ = batch.stats;
  submissions_seen_ = batch.submissions_seen;
  for (const auto& event : batch.events)
    if (event.finish != engine::finish_reason::none) sequences_.erase(event.id);
  // Nobody would ever hear of them again.
  if (batch.idle && submissions_seen_ == submitted_ && !sequences_.empty())
    fail(fmt::format("lost track of {} sequences", sequences_.size()));
  return true;
}

/// Waits for the next frame: as long as the process lives and is not given up.
std::optional<frame> process_engine::await_frame() {
  while (!lost_) {
    if (auto f = channel_.next()) return f;
    if (channel_.status() != frame_channel::state::open)
      fail(channel_.problem());
    else if (given_up_.load(std::memory_order_relaxed))
      fail("was given up: it showed no sign of life");
    else {
      channel_.receive();
      if (auto f = channel_.next()) return f;
      if (channel_.status() == frame_channel::state::open) channel_.wait(wait_slice, wake_.get());
    }
  }
  return std::nullopt;
}

std::optional<frame> process_engine::await_answer(frame_kind expected) {
  while (auto f = await_frame()) {
    if (f->kind == expected || f->kind == frame_kind::refused) return f;
    if (!keep(*f)) fail("sent a message out of turn");
  }
  return std::nullopt;
}

/// As the engine itself will: a client that sends a bad schema is to be told at once.
engine::result<void> process_engine::check_schema(const engine::generation_request& request) {
  if (request.json_schema.empty()) return {};
  const auto made = schemas_.match(request.json_schema);
  if (!made) return tl::unexpected(made.error());
  return {};
}

engine::result<void> process_engine::submit(engine::generation_request request) {
  if (auto why = lost()) return engine::fail(engine::error_code::internal, *why);
  if (auto checked = engine::check_request(request, model_->config()); !checked) return checked;
  if (auto checked = check_schema(request); !checked) return checked;
  if (sequences_.contains(request.id))
    return engine::fail(engine::error_code::invalid_request,
                        fmt::format("Request {} is under way already.", request.id));
  if (sequences_.size() >= capacity_)
    return engine::fail(engine::error_code::queue_full,
                        fmt::format("{} requests run or wait already; try again later.", sequences_.size()));
  write(out_, request);
  // A process that has just ended is noticed by the next step, which ends this sequence with all others.
  send(frame_kind::submit);
  ++submitted_;
  sequences_.insert(request.id);
  return {};
}

void process_engine::cancel(engine::request_id id) {
  if (!sequences_.contains(id)) return;
  out_.put(id);
  send(frame_kind::cancel);
}

std::vector<engine::generation_event> process_engine::step() {
  while (batches_.empty() && !sequences_.empty()) {
    const auto f = await_frame();
    if (!f) return {};
    if (!keep(*f)) fail("sent a message out of turn");
  }
  if (batches_.empty()) return {};
  auto events = std::move(batches_.front().events);
  batches_.pop_front();
  return events;
}

engine::generation_stats process_engine::stats() const noexcept {
  auto s = stats_;
  s.queued += submitted_ - submissions_seen_;
  // What it holds without a sequence no frame tells.
  if (sequences_.empty())
    s.kv_blocks_used = connection_.signs->kv_blocks_used.load(std::memory_order_relaxed);
  return s;
}

engine::result<std::uint64_t> process_engine::probe_hash() {
  send(frame_kind::probe);
  const auto f = await_answer(frame_kind::probed);
  if (!f) return engine::fail(engine::error_code::internal, *lost_);
  engine::error why{engine::error_code::internal, {}};
  if (f->kind == frame_kind::refused && decode(f->payload, why)) return tl::unexpected(std::move(why));
  byte_reader in(f->payload);
  const auto hash = in.get<std::uint64_t>();
  if (in.complete() && f->kind == frame_kind::probed) return hash;
  fail("answered the probe with something else");
  return engine::fail(engine::error_code::internal, *lost_);
}

fault_outcome process_engine::cause_fault(const fault_request& fault) {
  write(out_, fault);
  send(frame_kind::fault);
  const auto f = await_answer(frame_kind::faulted);
  if (!f) return tl::unexpected(*lost_);
  byte_reader in(f->payload);
  const bool done = in.get_bool();
  auto sentence = in.get_string();
  if (!in.complete())
    return tl::unexpected<std::string>("the engine process gave no answer that can be read");
  if (!done) return tl::unexpected(std::move(sentence));
  return sentence;
}

std::int64_t process_engine::heartbeat_ns() const noexcept {
  return connection_.signs->heartbeat_ns.load(std::memory_order_relaxed);
}

bool process_engine::alive() const noexcept {
  pollfd ended{connection_.process.get(), POLLIN, 0};
  return poll(&ended, 1, 0) == 0;
}

bool process_engine::stopped() const noexcept {
  // "PID (NAME) STATE ...", and the name may hold anything.
  std::array<char, 128> text{};
  const auto got = ::pread(stat_.get(), text.data(), text.size() - 1, 0);
  if (got <= 0) return false;
  const std::string_view line(text.data(), static_cast<std::size_t>(got));
  const auto name_end = line.rfind(") ");
  return name_end != std::string_view::npos && line.substr(name_end + 2, 1) == "T";
}

void process_engine::give_up() noexcept {
  given_up_.store(true, std::memory_order_relaxed);
  pidfd_send_signal(connection_.process.get(), SIGKILL, nullptr, 0);
  eventfd_write(wake_.get(), 1);
}

std::optional<std::string> process_engine::corrupted_weights() const {
  const auto& signs = *connection_.signs;
  if (!signs.corrupted.load(std::memory_order_acquire)) return std::nullopt;
  return std::string(
      signs.corrupted_region,
      std::find(signs.corrupted_region, signs.corrupted_region + engine_signs::region_bytes, '\0'));
}

}  // namespace bitnet::actors
