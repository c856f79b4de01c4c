#pragma once

#include "engine/cuda/device_memory.hpp"
#include "engine/weights.hpp"
#include "kernels/cuda/operators.hpp"
#include "kernels/cuda/runtime.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bitnet::engine::cuda {

/// One transformer block on the device; products that read the same input are one matrix.
struct device_block {
  const float* attn_norm = nullptr;
  kernels::cuda::weight_view qkv;  ///< q, k and v rows
  const float* attn_sub_norm = nullptr;
  kernels::cuda::weight_view attn_output;
  const float* ffn_norm = nullptr;
  kernels::cuda::weight_view gate_up;  ///< gate rows, then up rows
  const float* ffn_sub_norm = nullptr;
  kernels::cuda::weight_view down;
};

/// A model on the device.
struct device_weights {
  const void* embedding = nullptr;  ///< [vocabulary_size][embedding_length]
  bool embedding_is_f16 = false;    ///< where every value is one; else f32
  std::vector<device_block> blocks;
  const float* output_norm = nullptr;
  kernels::cuda::weight_view head_int8;     ///< with head_matrix::format::int8
  const std::uint16_t* head_f16 = nullptr;  ///< [vocabulary_size][embedding_length], with format::f16
  const float* rope_cos = nullptr;          ///< [context_length][head_dim / 2]
  const float* rope_sin = nullptr;
};

/// Packs on all CPUs and copies; seconds. Throws kernels::cuda::device_error and std::bad_alloc.
device_weights upload(const model_weights& weights, device_memory& memory, kernels::cuda::stream& stream);

}  // namespace bitnet::engine::cuda
