#pragma once

#include "engine/forward_pass.hpp"
#include "engine/weights.hpp"
#include "kernels/instruction_set.hpp"
#include "kernels/team.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace bitnet::engine {

/// The steps of a forward pass, for profiles.
enum class operation : std::uint8_t {
  embedding,
  attention_norm,
  qkv_matmul,
  rope_and_store,
  attention,
  attention_sub_norm,
  output_matmul,
  ffn_norm,
  gate_up_matmul,
  ffn_sub_norm,
  down_matmul,
  output_norm,
  head_matmul,
  head_candidates,  ///< of screened heads: choosing them and their logits
};
inline constexpr std::size_t operation_count = 14;
const char* to_string(operation op) noexcept;

/// Seconds a step of the forward pass took in all, waiting at its barrier included, as member 0 saw it.
struct forward_profile {
  std::array<double, operation_count> seconds{};
  std::uint64_t passes = 0;
};

struct transformer_state;

/// The forward pass of this CPU, with one parallel region a pass.
class transformer final : public forward_pass {
 public:
  using limits = pass_limits;

  /// References must outlive the transformer. `profile`, where given, adds a clock reading a step.
  /// Precondition: kernels::is_supported(isa). Throws std::bad_alloc.
  transformer(const model_weights& weights, kernels::team& team, kernels::instruction_set isa,
              const limits& most, forward_profile* profile = nullptr);
  ~transformer() override;
  transformer(const transformer&) = delete;
  transformer& operator=(const transformer&) = delete;

  /// Moves `progress.layer` and `last_progress_ns` at every layer; looks at `progress.cancel` once a layer.
  forward_status forward(std::span<const batch_chunk> chunks, kv_cache& cache, progress& progress) override;
  std::span<float> logits(std::size_t index) noexcept override;
  std::span<const candidate> candidates(std::size_t index) const noexcept override;
  bool failed(std::size_t chunk) const noexcept override;

 private:
  std::unique_ptr<transformer_state> state_;
};

}  // namespace bitnet::engine
