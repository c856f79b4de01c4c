#include "actors/engine_process/engine_loop.hpp"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

namespace bitnet::actors {

namespace {

/// Steps that are quicker than this are told together, and commands looked for no more often: a message costs
/// as much as a tenth of the quickest steps, and nobody reads tokens faster.
constexpr std::chrono::microseconds exchange_interval{200};

class engine_loop {
 public:
  engine_loop(frame_channel& channel, engine_signs& signs, inference_engine& engine)
      : channel_(channel), signs_(signs), engine_(engine) {}

  void run() {
    beat();
    write(out_, engine_.stats());
    send(frame_kind::hello);
    while (connected_) {
      if (clock::now() - exchanged_ >= exchange_interval && !exchange()) return;
      if (engine_.idle()) {
        flush();
        channel_.wait(inference_engine::sign_interval);
        exchanged_ = {};
      } else if (!step()) {
        // Waiting for KV blocks that nobody gives back: not at full speed.
        flush();
        channel_.wait(std::chrono::milliseconds(1));
      }
    }
  }

 private:
  using clock = std::chrono::steady_clock;

  void beat() {
    signs_.kv_blocks_used.store(engine_.stats().kv_blocks_used, std::memory_order_relaxed);
    signs_.heartbeat_ns.store(clock::now().time_since_epoch().count(), std::memory_order_relaxed);
  }

  /// Tells what happened and hears what is wanted; false when the server is gone.
  bool exchange() {
    beat();
    flush();
    channel_.receive();
    while (auto f = channel_.next()) obey(std::move(*f));
    exchanged_ = clock::now();
    if (exchanged_ - waits_measured_ >= inference_engine::sign_interval) {
      signs_.cpu_wait_ns.store(engine_.cpu_wait().count(), std::memory_order_relaxed);
      waits_measured_ = exchanged_;
    }
    return channel_.status() == frame_channel::state::open;
  }

  void send(frame_kind kind) {
    connected_ = channel_.send(kind, out_.bytes(), {}, [this] {
      beat();  // the server does not read: that is no hang of ours
      return true;
    });
    out_.clear();
  }

  void refuse(const engine::error& why) {
    write(out_, why);
    send(frame_kind::refused);
  }

  void obey(frame f) {
    switch (f.kind) {
      case frame_kind::submit:
        return submit(f);
      case frame_kind::cancel: {
        byte_reader in(f.payload);
        const auto id = in.get<engine::request_id>();
        if (in.complete()) engine_.cancel(id);
        return;
      }
      case frame_kind::probe:
        return probe();
      case frame_kind::fault:
        return fault(f);
      default:
        connected_ = false;  // not something that is said to an engine
        return;
    }
  }

  void submit(const frame& f) {
    engine::generation_request request;
    ++submissions_seen_;
    if (!decode(f.payload, request)) {
      connected_ = false;
      return;
    }
    const auto id = request.id;
    if (auto accepted = engine_.submit(std::move(request)); !accepted) {
      engine::generation_event event;
      event.id = id;
      event.finish = engine::finish_reason::failed;
      event.failure = std::move(accepted.error());
      add(std::move(event));
    }
  }

  void probe() {
    flush();
    const auto hash = engine_.probe_hash();
    if (!hash) return refuse(hash.error());
    out_.put(*hash);
    send(frame_kind::probed);
  }

  void fault(const frame& f) {
    fault_request request;
    if (!decode(f.payload, request)) {
      connected_ = false;
      return;
    }
    const auto done = engine_.cause_fault(request);
    out_.put(done.has_value());
    out_.put(std::string_view(done ? *done : done.error()));
    send(frame_kind::faulted);
  }

  /// False where nothing happened.
  bool step() {
    const auto passes = engine_.stats().steps;
    const auto began = clock::now();
    auto events = engine_.step();
    const auto ended = clock::now();
    const bool moved = engine_.stats().steps != passes || !events.empty();
    ++steps_;
    seconds_ += std::chrono::duration<double>(ended - began).count();
    bool last = false;
    for (auto& event : events) {
      last = last || event.finish != engine::finish_reason::none;
      add(std::move(event));
    }
    if (last) flush();
    return moved;
  }

  /// One event a sequence, however many steps it comes from.
  void add(engine::generation_event event) {
    const auto known = std::find_if(pending_.begin(), pending_.end(),
                                    [&](const engine::generation_event& e) { return e.id == event.id; });
    if (known == pending_.end()) {
      pending_.push_back(std::move(event));
      return;
    }
    for (auto& token : event.tokens) known->tokens.push_back(std::move(token));
    known->finish = event.finish;
    known->failure = std::move(event.failure);
    known->usage = event.usage;
  }

  void flush() {
    if (steps_ == 0 && pending_.empty()) return;
    event_batch batch;
    batch.submissions_seen = submissions_seen_;
    batch.idle = engine_.idle();
    batch.stats = engine_.stats();
    batch.stats.last_step_seconds = steps_ == 0 ? 0 : seconds_ / static_cast<double>(steps_);
    batch.events = std::exchange(pending_, {});
    // First: whoever reads the end of the last sequence looks at these.
    signs_.kv_blocks_used.store(batch.stats.kv_blocks_used, std::memory_order_relaxed);
    steps_ = 0;
    seconds_ = 0;
    write(out_, batch);
    send(frame_kind::events);
  }

  frame_channel& channel_;
  engine_signs& signs_;
  inference_engine& engine_;
  byte_writer out_;
  std::uint64_t submissions_seen_ = 0;
  clock::time_point exchanged_{};
  clock::time_point waits_measured_{};
  // Since the last flush.
  std::vector<engine::generation_event> pending_;
  std::uint64_t steps_ = 0;
  double seconds_ = 0;
  bool connected_ = true;
};

}  // namespace

void serve_engine(frame_channel& channel, engine_signs& signs, inference_engine& engine) {
  engine_loop(channel, signs, engine).run();
}

}  // namespace bitnet::actors
