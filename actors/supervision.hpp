#pragma once

#include "actors/introspection/instrumented.hpp"
#include "actors/messages.hpp"
#include "actors/restart_policy.hpp"

#include <caf/all.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::actors {

/// Which children end and start again when one has ended (Erlang/OTP's names and meaning).
enum class restart_strategy : std::uint8_t {
  one_for_one,   ///< that one
  one_for_all,   ///< all
  rest_for_one,  ///< that one and those started after it, which depend on it
};

struct child_spec {
  std::string name;
  /// Starts the child; runs on the supervisor's thread, must not block. `incarnation` is 1 at first and grows
  /// by 1 with each restart. The supervisor monitors the result.
  std::function<caf::actor(caf::event_based_actor* supervisor, std::uint64_t incarnation)> start;
};

struct supervisor_options {
  std::string name = "supervisor";
  restart_strategy strategy = restart_strategy::rest_for_one;
  std::vector<child_spec> children;  ///< started in this order, stopped in the reverse one
  restart_limits limits;
  std::chrono::milliseconds stop_timeout{5000};  ///< for one child to end before it is killed
  std::function<void(const std::string& child, std::uint64_t incarnation)> restarted;  ///< may be empty
  std::function<void(const std::string& why)> escalate;  ///< the limit is exceeded; all children are stopped
};

struct supervisor_state {
  struct child {
    caf::actor handle;  ///< null while it does not run
    std::uint64_t incarnation = 0;
  };
  enum class phase : std::uint8_t { running, stopping, waiting };

  static inline const char* name = "supervisor";

  caf::event_based_actor* self;
  supervisor_options options;
  std::vector<child> children;
  phase current = phase::running;
  std::size_t stop_from = 0;     ///< while stopping: children from here on ...
  std::size_t stop_to = 0;       ///< ... to before here must end
  std::uint64_t generation = 0;  ///< of pending delayed messages; older ones are stale
  std::string last_failure;
  bool gave_up = false;
  std::optional<caf::error> quitting;  ///< why, once asked to end
  restart_policy policy;

  explicit supervisor_state(caf::event_based_actor* owner) : self(owner) {}

  void on_child_down(const caf::down_msg& down);
  void on_exit_request(caf::error reason);
  void restart();
  void on_stop_timeout();

 private:
  void stop(std::size_t from, std::size_t to);
  void stop_next();
  void stopped();
};

/// Keeps its children running: each end of one, whatever the reason, is a failure. Those that the strategy
/// names are stopped in reverse order, one after the other, and started again in order after a growing delay.
/// Where failures are too frequent it stops all children, escalates, and stays, so that its own end means
/// something else. On an exit message it stops the children in reverse order and ends with that reason.
caf::behavior supervisor(instrumented_pointer<caf::actor, supervisor_state> self, supervisor_options options);

}  // namespace bitnet::actors
