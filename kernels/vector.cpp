#include "kernels/vector.hpp"

#include "kernels/kv_block.hpp"
#include "kernels/vector_variants.hpp"

namespace bitnet::kernels {

std::size_t kv_block_bytes(std::size_t kv_heads, std::size_t head_dim) noexcept {
  return kv_heads * (key_dims(head_dim) + value_panels(head_dim) * panel_width) * kv_block_tokens *
         sizeof(std::uint16_t);
}

void prefetch_kv(const std::byte* kv_block, std::size_t first, std::size_t last, std::size_t kv_heads,
                 std::size_t head_dim) noexcept {
  constexpr std::size_t pair = 2 * panel_width;  // a cache line
  for (std::size_t h = 0; h < kv_heads; ++h) {
    const std::size_t dims = key_dims(head_dim);
    const std::uint16_t* const keys =
        keys_of(kv_block, h, head_dim) + first / panel_width * dims * panel_width;
    for (std::size_t i = 0; i < dims / 2; ++i) __builtin_prefetch(keys + i * pair, 1);
    // A panel of keys is half of a step of values.
    const std::uint16_t* const values =
        values_of(kv_block, h, kv_heads, head_dim) + first / dot_step * value_panels(head_dim) * step_panel;
    for (std::size_t c = 0; c < value_panels(head_dim); ++c)
      for (std::size_t p = first % dot_step / 2; p <= (last - 1) % dot_step / 2; ++p)
        __builtin_prefetch(values + c * step_panel + p * pair, 1);
  }
}

#if BITNET_X86_KERNELS
namespace {

const vector_kernels& amx_vector_kernels() noexcept {
  static const vector_kernels kernels = [] {
    auto table = avx512_vector_kernels;
    table.isa = instruction_set::amx_int8;
    table.attention = amx_attention;
    return table;
  }();
  return kernels;
}

}  // namespace
#endif

const vector_kernels& vector_kernels_for(instruction_set isa) noexcept {
  switch (isa) {
    case instruction_set::scalar:
      break;
#if BITNET_X86_KERNELS
    case instruction_set::avx2:
    case instruction_set::avx_vnni:
      return avx2_vector_kernels;
    case instruction_set::avx512_vnni:
      return avx512_vector_kernels;
    case instruction_set::amx_int8:
      return amx_vector_kernels();
#else
    case instruction_set::avx2:
    case instruction_set::avx_vnni:
    case instruction_set::avx512_vnni:
    case instruction_set::amx_int8:
      break;
#endif
  }
  return scalar_vector_kernels;
}

}  // namespace bitnet::kernels
