#pragma once

#include "actors/generation_engine.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

namespace bitnet::actors {

/// A generation engine that breaks on command, in ways that are as real as can be: the fault is in the
/// engine, and everything around it is what runs in production.
class engine_drill final : public generation_engine {
 public:
  engine_drill(std::unique_ptr<engine::generation_loop> loop, std::shared_ptr<const engine::model> model,
               engine_faults allowed);

  fault_outcome cause_fault(const fault_request& fault) override;
  std::vector<engine::generation_event> step() override;
  engine::result<std::uint64_t> probe_hash() override;

  /// The faults above, with their parameters.
  static std::vector<std::pair<std::string, std::string>> faults();

 private:
  fault_outcome hang(const fault_request& fault);
  fault_outcome crash(const fault_request& fault) const;
  fault_outcome livelock(const fault_request& fault);
  fault_outcome not_a_number(const fault_request& fault);
  fault_outcome flip_bit(const fault_request& fault);
  fault_outcome slow_down(const fault_request& fault);
  fault_outcome leak_kv(const fault_request& fault);

  void hang_now() noexcept;
  void pause(std::chrono::nanoseconds time) noexcept;
  void end_not_a_number() noexcept;

  using clock = std::chrono::steady_clock;

  std::shared_ptr<const engine::model> model_;
  engine_faults allowed_;
  clock::time_point hang_until_{};
  clock::time_point livelock_until_{};
  clock::time_point slow_until_{};
  double slow_factor_ = 1;
  std::uint64_t bad_steps_left_ = 0;  ///< with a weight that is not a number
  float sound_weight_ = 0;
};

}  // namespace bitnet::actors
