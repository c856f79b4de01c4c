#pragma once

#include "engine/compute_device.hpp"
#include "engine/cuda/cuda_device.hpp"
#include "engine/cuda/device_memory.hpp"
#include "engine/cuda/device_weights.hpp"
#include "engine/cuda/step_plan.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

namespace bitnet::engine::cuda {

/// The forward pass on a CUDA device, with the bits of the CPU's. One copy of a few kilobytes describes a
/// pass; the launches of decode steps are recorded once for each batch size and length class.
class cuda_pass final : public device_pass {
 public:
  /// Throws kernels::cuda::device_error and std::bad_alloc.
  cuda_pass(const model_weights& weights, const pass_limits& limits, int device, const cuda_options& options);

  std::size_t memory_for_kv_bytes() override;
  result<void> take_kv_blocks(std::size_t count) override;

  forward_status forward(std::span<const batch_chunk> chunks, kv_cache& cache, progress& progress) override;
  std::span<float> logits(std::size_t index) noexcept override;
  std::span<const candidate> candidates(std::size_t index) const noexcept override;
  bool failed(std::size_t chunk) const noexcept override { return chunk_failed_[chunk] != 0; }

 private:
  forward_status run(std::span<const batch_chunk> chunks, progress& progress);
  void launch(const step_shape& shape);
  void launch_layer(std::size_t layer, const step_shape& shape);
  void launch_head(const step_shape& shape);
  void attend(std::size_t layer, const step_shape& shape);
  void normalise(const float* x, std::size_t x_stride, kernels::cuda::norm_input input, const float* weight,
                 std::size_t cols, std::size_t count);
  kernels::cuda::activation_view activations_of(std::size_t cols) const noexcept;
  kernels::cuda::qkv_view qkv() const noexcept;
  kernels::cuda::kv_view kv() const noexcept;
  void launch_decode(const step_shape& shape);
  void fetch_logits(std::span<const batch_chunk> chunks, bool without_choice);
  bool take_candidates(std::span<const batch_chunk> chunks, const step_shape& shape);
  bool wait(progress& progress);
  void abandon() noexcept;

  /// Buffers on the device; `description` is the pass's, see step_layout.
  struct buffers {
    std::int32_t* description = nullptr;
    float* residual = nullptr;           ///< [rows][embedding_length]
    float* qkv = nullptr;                ///< [rows][query_length + 2 kv_length]
    float* attended = nullptr;           ///< [rows][query_length]
    float* gate_up = nullptr;            ///< [rows][2 feed_forward_length]
    std::int8_t* activations = nullptr;  ///< [rows][longest input, padded]
    float* scales = nullptr;             ///< [rows]
    std::int32_t* sums = nullptr;        ///< [rows]
    float* scores = nullptr;
    float* head_floats = nullptr;        ///< [logits rows][embedding_length], with an f16 head
    float* logits = nullptr;             ///< [logits rows][vocabulary_size]
    std::uint64_t* selection = nullptr;  ///< scratch of choose_best
    std::int32_t* results = nullptr;     ///< [rows] failed, then choices: one a logits row, or choices_a_row
  };

  const model_config& config_;
  const kernels::head_matrix::format head_format_;
  const pass_limits limits_;
  const int device_;
  const cuda_options options_;
  const step_layout layout_;
  std::size_t score_floats_;
  kernels::cuda::stream stream_;
  device_memory memory_;
  device_weights weights_;
  buffers at_;
  std::uint16_t* kv_blocks_ = nullptr;
  kernels::cuda::pinned_buffer description_;
  kernels::cuda::pinned_buffer results_;
  kernels::cuda::pinned_buffer logits_;
  /// Decode steps by (rows, blocks of the longest sequence, selects); empty until the shape comes again.
  std::map<std::tuple<std::size_t, std::size_t, bool>, std::optional<kernels::cuda::graph>> graphs_;
  std::vector<candidate> candidates_;           ///< [logits rows][most_candidates]
  std::vector<std::size_t> candidates_of_row_;  ///< so many there are
  std::vector<std::uint8_t> chunk_failed_;
};

}  // namespace bitnet::engine::cuda
