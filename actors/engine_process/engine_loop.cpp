#include "actors/engine_process/engine_loop.hpp"

#include <chrono>
#include <utility>

namespace bitnet::actors {

namespace {

class engine_loop {
 public:
  engine_loop(frame_channel& channel, engine_signs& signs, inference_engine& engine)
      : channel_(channel), signs_(signs), engine_(engine) {}

  void run() {
    beat();
    write(out_, engine_.stats());
    send(frame_kind::hello);
    while (connected_) {
      beat();
      channel_.receive();
      while (auto f = channel_.next()) obey(std::move(*f));
      if (channel_.status() != frame_channel::state::open) return;
      if (engine_.idle() && refused_.empty()) {
        channel_.wait(inference_engine::sign_interval);
      } else if (!step()) {
        // Waiting for KV blocks that nobody gives back: not at full speed.
        channel_.wait(std::chrono::milliseconds(1));
      }
    }
  }

 private:
  void beat() {
    signs_.heartbeat_ns.store(std::chrono::steady_clock::now().time_since_epoch().count(),
                              std::memory_order_relaxed);
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
      refused_.push_back(std::move(event));
    }
  }

  void probe() {
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
    const auto began = std::chrono::steady_clock::now();
    event_batch batch;
    batch.events = engine_.step();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    for (auto& event : refused_) batch.events.push_back(std::move(event));
    refused_.clear();
    batch.submissions_seen = submissions_seen_;
    batch.idle = engine_.idle();
    batch.stats = engine_.stats();
    batch.stats.last_step_seconds = took.count();
    const bool moved = batch.stats.steps != passes || !batch.events.empty();
    write(out_, batch);
    send(frame_kind::events);
    return moved;
  }

  frame_channel& channel_;
  engine_signs& signs_;
  inference_engine& engine_;
  byte_writer out_;
  std::uint64_t submissions_seen_ = 0;
  std::vector<engine::generation_event> refused_;  ///< to be sent with the next step
  bool connected_ = true;
};

}  // namespace

void serve_engine(frame_channel& channel, engine_signs& signs, inference_engine& engine) {
  engine_loop(channel, signs, engine).run();
}

}  // namespace bitnet::actors
