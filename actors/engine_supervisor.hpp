#pragma once

#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"
#include "actors/supervised_engine.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace bitnet::actors {

struct engine_supervisor_state {
  static inline const char* name = "engine-supervisor";

  engine_supervisor_actor::pointer self;
  engine_supervisor_options options;
  std::map<std::uint64_t, model_engines> engines;  ///< by slot
  bool router_ended = false;
  std::optional<caf::error> quitting;  ///< why, once asked to end

  explicit engine_supervisor_state(engine_supervisor_actor::pointer owner) : self(owner) {}

  void use_model(loaded_model loaded);
  void fence_off(std::uint64_t slot, std::string why);
  void retire(std::uint64_t slot);
  void release(std::uint64_t slot);
  void restart(std::uint64_t worker, std::uint64_t generation);
  void on_down(const caf::down_msg& down);
  void on_exit_request(caf::error reason);
  caf::result<std::string> cause_fault(const fault_request& fault);
  void tick();

 private:
  model_engines* find(std::uint64_t slot);
  const model_engines* serving() const;
  engine_verdict judge();
  void look_at_others();
  void look_at_candidate(std::uint64_t slot);
  void promote(std::uint64_t slot);
  void set_role(std::uint64_t slot, model_role role);
  void drop(std::uint64_t slot);
  void report(const engine_verdict& verdict, std::chrono::nanoseconds took);
  engine_sample sample() const;
};

engine_supervisor_actor::behavior_type engine_supervisor(
    instrumented_pointer<engine_supervisor_actor, engine_supervisor_state> self,
    engine_supervisor_options options);

}  // namespace bitnet::actors
