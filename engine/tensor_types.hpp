#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace bitnet::engine {

/// Tensor types that we read, with their ids in the file. Others are refused by name.
enum class tensor_type : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q8_0 = 8,
  q4_k = 12,
  q6_k = 14,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  i2_s = 36,
};

/// Nothing for an id that we do not read.
std::optional<tensor_type> known_tensor_type(std::uint32_t id) noexcept;

/// Name of any type id, known to us or not ("TL1", "type 99").
std::string tensor_type_name(std::uint32_t id);
inline std::string tensor_type_name(tensor_type type) {
  return tensor_type_name(static_cast<std::uint32_t>(type));
}

/// How a type stores weights: groups of `elements` consecutive ones in `bytes` bytes, and `trailer` bytes
/// after the last group of a tensor.
struct tensor_layout {
  std::uint32_t elements;
  std::uint32_t bytes;
  std::uint32_t trailer;
  /// Groups never cross a row, so a row's length is a multiple of `elements`. False for I2_S, which runs on
  /// over the whole tensor.
  bool rows_are_whole;

  /// Bytes of a tensor. Precondition: count % elements == 0, and the result fits 64 bits.
  std::uint64_t size_of(std::uint64_t count) const noexcept { return count / elements * bytes + trailer; }
};

tensor_layout layout_of(tensor_type type) noexcept;

/// True for types whose weights are ternary by construction.
bool is_ternary(tensor_type type) noexcept;

}  // namespace bitnet::engine
