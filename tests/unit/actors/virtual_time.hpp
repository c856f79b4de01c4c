#pragma once

#include "actors/interfaces.hpp"
#include "actors/introspection/introspection.hpp"

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace bitnet::tests {

class virtual_time_config : public actors::introspected_config {
 public:
  virtual_time_config() {
    config_file_path.clear();
    add_message_types<caf::id_block::bitnet>();
    add_error_category(actors::error_category, actors::render_error);
    set("scheduler.policy", caf::atom("testing"));
  }
};

/// What a request came to.
template <class T>
struct outcome {
  std::optional<T> value;
  caf::error error;
};

/// An actor system whose clock stands still until the test moves it; everything runs on the test's thread.
struct virtual_time {
  virtual_time_config config;
  caf::actor_system system{config};
  caf::scheduler::test_coordinator& scheduler =
      dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler());

  actors::steady_time now() { return scheduler.clock().now(); }

  /// Runs what can run now, in turns: the coordinator by itself would go on with one actor as long as that
  /// sends itself messages.
  void settle() {
    auto& jobs = scheduler.jobs;
    while (!jobs.empty()) {
      auto* const current = jobs.front();
      scheduler.run_once();
      if (jobs.size() > 1 && jobs.front() == current) std::rotate(jobs.begin(), jobs.begin() + 1, jobs.end());
    }
  }

  /// Moves the clock in small steps, so that periodic messages come at their times.
  void advance(std::chrono::milliseconds by) {
    constexpr std::chrono::milliseconds step{50};
    settle();
    for (auto left = by; left.count() > 0; left -= step) {
      scheduler.advance_time(std::min(left, step));
      settle();
    }
  }

  /// Sends a request and runs it to its end.
  template <class Result, class Handle, class... Ts>
  outcome<Result> request(const Handle& to, const Ts&... xs) {
    auto result = std::make_shared<outcome<Result>>();
    system.spawn([=](caf::event_based_actor* self) {
      self->request(to, std::chrono::seconds(60), xs...)
          .then([=](const Result& value) { result->value = value; },
                [=](const caf::error& error) { result->error = error; });
    });
    settle();
    return std::move(*result);
  }

  /// A sink that keeps its frames.
  using frame_log = std::shared_ptr<std::vector<actors::token_frame>>;
  std::pair<actors::token_sink_actor, frame_log> make_sink() {
    auto kept = std::make_shared<std::vector<actors::token_frame>>();
    auto handle =
        system.spawn([kept](actors::token_sink_actor::pointer) -> actors::token_sink_actor::behavior_type {
          return {[kept](const actors::token_frame& frame) { kept->push_back(frame); }};
        });
    return {handle, kept};
  }

  void kill(const caf::actor& actor) { caf::anon_send_exit(actor, caf::exit_reason::kill); }
};

inline engine::generation_request request_of(engine::request_id id, std::uint32_t max_tokens = 3) {
  engine::generation_request r;
  r.id = id;
  r.prompt = {1, 2, 3};
  r.max_tokens = max_tokens;
  return r;
}

}  // namespace bitnet::tests
