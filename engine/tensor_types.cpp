#include "engine/tensor_types.hpp"

#include <array>
#include <string_view>

namespace bitnet::engine {

namespace {

/// ggml's type ids, and those of bitnet.cpp (36, 38, 39). Empty: never given out, or removed.
constexpr std::array<std::string_view, 40> type_names = {
    "F32",    "F16",   "Q4_0",  "Q4_1",   "",      "",      "Q5_0",    "Q5_1",   "Q8_0",    "Q8_1",
    "Q2_K",   "Q3_K",  "Q4_K",  "Q5_K",   "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
    "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8",    "I16",   "I32",     "I64",    "F64",     "IQ1_M",
    "BF16",   "",      "",      "",       "TQ1_0", "TQ2_0", "I2_S",    "",       "TL1",     "TL2",
};

}  // namespace

std::optional<tensor_type> known_tensor_type(std::uint32_t id) noexcept {
  const auto type = static_cast<tensor_type>(id);
  switch (type) {
    case tensor_type::f32:
    case tensor_type::f16:
    case tensor_type::q8_0:
    case tensor_type::q4_k:
    case tensor_type::q6_k:
    case tensor_type::bf16:
    case tensor_type::tq1_0:
    case tensor_type::tq2_0:
    case tensor_type::i2_s:
      return type;
  }
  return std::nullopt;
}

std::string tensor_type_name(std::uint32_t id) {
  if (id < type_names.size() && !type_names[id].empty()) return std::string(type_names[id]);
  return "type " + std::to_string(id);
}

tensor_layout layout_of(tensor_type type) noexcept {
  switch (type) {
    case tensor_type::f32:
      return {1, 4, 0, true};
    case tensor_type::f16:
    case tensor_type::bf16:
      return {1, 2, 0, true};
    case tensor_type::q8_0:
      return {32, 34, 0, true};
    case tensor_type::q4_k:
      return {256, 144, 0, true};
    case tensor_type::q6_k:
      return {256, 210, 0, true};
    case tensor_type::tq1_0:
      return {256, 54, 0, true};
    case tensor_type::tq2_0:
      return {256, 66, 0, true};
    case tensor_type::i2_s:
      return {128, 32, 32, false};
  }
  return {1, 1, 0, true};
}

bool is_ternary(tensor_type type) noexcept {
  return type == tensor_type::i2_s || type == tensor_type::tq1_0 || type == tensor_type::tq2_0;
}

}  // namespace bitnet::engine
