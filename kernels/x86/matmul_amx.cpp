#include "kernels/matmul_variants.hpp"
#include "kernels/x86/avx2_operators.hpp"
#include "kernels/x86/avx512_operators.hpp"
#include "kernels/x86/products_amx.hpp"

namespace bitnet::kernels {

namespace {

// Fewer tokens the vector units multiply as fast.
constexpr std::size_t min_tokens = 5;

/// How a ternary matrix packs a step of a block, and how an eighth of it becomes rows of the two B tiles:
/// rows 0..15 of the block as codes 0..2, rows 16..31 as codes scaled by 4.
struct ternary_codes {
  using matrix = ternary_matrix;
  static constexpr std::size_t step_bytes = 512;

  [[gnu::always_inline]] static void unpack(const std::uint8_t* eighth, std::uint8_t* tiles) {
    const __m512i low_field = _mm512_set1_epi8(0x03);
    const __m512i high_field = _mm512_set1_epi8(0x0C);
    const __m512i x = _mm512_loadu_si512(eighth);
    const __m512i z = _mm512_srli_epi16(x, 4);
    _mm512_store_si512(tiles, _mm512_and_si512(x, low_field));
    _mm512_store_si512(tiles + 64, _mm512_and_si512(z, low_field));
    _mm512_store_si512(tiles + tile_bytes, _mm512_and_si512(x, high_field));
    _mm512_store_si512(tiles + tile_bytes + 64, _mm512_and_si512(z, high_field));
  }
};

/// B tiles of an int8 head: stored as the tiles want them.
class head_tiles {
 public:
  struct memory {};

  head_tiles(const head_matrix* const* w, const visits&, memory&) : w_(w[0]) {}

  template <std::size_t S>
  [[gnu::always_inline]] const std::uint8_t* tile(std::size_t half) const {
    return packed_ + (2 * S + half) * tile_bytes;
  }

  template <std::size_t S>
  [[gnu::always_inline]] void prepare(std::size_t first, std::size_t count) const {
    constexpr std::size_t prefetch_ahead = 4 * tile_bytes;
    constexpr std::size_t eighth = 2 * tile_bytes / 8;
    const std::uint8_t* const from = packed_ + 2 * S * tile_bytes + first * eighth + prefetch_ahead;
    for (std::size_t at = 0; at < count * eighth; at += 64) prefetch(from + at);
  }

  template <std::size_t Steps>
  [[gnu::always_inline]] void advance() {
    packed_ += Steps * 2 * tile_bytes;
  }

  void begin(const visit& v) { packed_ = w_->int8_block(v.block); }

 private:
  const head_matrix* w_;
  const std::uint8_t* packed_ = nullptr;
};

/// Products of a token with a ternary matrix from sums of codes: rows [0, 16) and [16, 32) of a block.
[[gnu::always_inline]] inline void scale_ternary(const activation_rows& x, std::size_t m, float w_scale,
                                                 const std::int32_t* sums, __m512& low, __m512& high) {
  const __m512i row_sum = _mm512_set1_epi32(x.row_sum()[m]);
  const __m512 factor = _mm512_set1_ps(x.row_scale()[m] * w_scale);
  // Codes of the second half of a block were unpacked scaled by 4.
  const __m512i high_codes = _mm512_srai_epi32(_mm512_load_si512(sums + 16), 2);
  low = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(sums), row_sum)), factor);
  high = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(high_codes, row_sum)), factor);
}

class ternary_scaling {
 public:
  ternary_scaling(const ternary_matrix* const* w, const activation_rows& x) : x_(x), scale_(w[0]->scale()) {}

  void begin(std::size_t) {}

  [[gnu::always_inline]] void scale(std::size_t m, const std::int32_t* sums, __m512& low,
                                    __m512& high) const {
    scale_ternary(x_, m, scale_, sums, low, high);
  }

 private:
  activation_rows x_;
  float scale_;
};

/// relu(products with the first matrix)^2 * products with the second.
class gated_scaling {
 public:
  gated_scaling(const ternary_matrix* const* w, const activation_rows& x)
      : x_(x), gate_scale_(w[0]->scale()), up_scale_(w[1]->scale()) {}

  void begin(std::size_t) {}

  [[gnu::always_inline]] void scale(std::size_t m, const std::int32_t* sums, __m512& low,
                                    __m512& high) const {
    __m512 up_low;
    __m512 up_high;
    scale_ternary(x_, m, gate_scale_, sums, low, high);
    scale_ternary(x_, m, up_scale_, sums + sum_rows::second, up_low, up_high);
    low = _mm512_mul_ps(squared_relu(low), up_low);
    high = _mm512_mul_ps(squared_relu(high), up_high);
  }

 private:
  /// As vector_kernels::squared_relu_gate: NaN passes.
  static __m512 squared_relu(__m512 v) {
    const __m512 positive = _mm512_max_ps(_mm512_setzero_ps(), v);
    return _mm512_mul_ps(positive, positive);
  }

  activation_rows x_;
  float gate_scale_;
  float up_scale_;
};

/// Products with an int8 head: one scale a row, and stored weights are 128 too large.
class head_scaling {
 public:
  head_scaling(const head_matrix* const* w, const activation_rows& x) : x_(x), w_(w[0]) {}

  void begin(std::size_t block) {
    low_scales_ = _mm512_loadu_ps(w_->row_scales() + block * block_rows);
    high_scales_ = _mm512_loadu_ps(w_->row_scales() + block * block_rows + 16);
  }

  [[gnu::always_inline]] void scale(std::size_t m, const std::int32_t* sums, __m512& low,
                                    __m512& high) const {
    const __m512i excess = _mm512_slli_epi32(_mm512_set1_epi32(x_.row_sum()[m]), 7);
    const __m512 factor = _mm512_set1_ps(x_.row_scale()[m]);
    low = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(sums), excess)),
                        _mm512_mul_ps(factor, low_scales_));
    high = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(sums + 16), excess)),
                         _mm512_mul_ps(factor, high_scales_));
  }

 private:
  activation_rows x_;
  const head_matrix* w_;
  __m512 low_scales_{};
  __m512 high_scales_{};
};

/// y = W x.
struct ternary_product {
  using matrix = ternary_matrix;
  using tiles = unpacked_tiles<ternary_codes>;
  using writer = product_rows<ternary_scaling, false>;
  static constexpr std::size_t matrices = 1;
};

/// y += W x.
struct ternary_addition : ternary_product {
  using writer = product_rows<ternary_scaling, true>;
};

/// y = relu(W0 x)^2 * (W1 x).
struct gated_product : ternary_product {
  using writer = product_rows<gated_scaling, false, true>;
  static constexpr std::size_t matrices = 2;
};

/// y = W x with an int8 head.
struct head_product {
  using matrix = head_matrix;
  using tiles = head_tiles;
  using writer = product_rows<head_scaling, false>;
  static constexpr std::size_t matrices = 1;
};

void ternary_matmul(const ternary_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                    work_range blocks) {
  if (x.layout() == activation_layout::rows)
    avx512::ternary_matmul(w, x, y, y_stride, blocks);
  else
    multiply<ternary_product>({&w}, x, y, y_stride, blocks);
}

void add_ternary_matmul(const ternary_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                        work_range blocks) {
  multiply<ternary_addition>({&w}, x, y, y_stride, blocks);
}

void gated_matmul(const ternary_matrix& gate, const ternary_matrix& up, const activation_rows& x, float* y,
                  std::size_t y_stride, work_range blocks) {
  multiply<gated_product>({&gate, &up}, x, y, y_stride, blocks);
}

void head_int8(const head_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
               work_range blocks) {
  if (x.layout() == activation_layout::rows)
    avx512::head_int8(w, x, y, y_stride, blocks);
  else
    multiply<head_product>({&w}, x, y, y_stride, blocks);
}

}  // namespace

const matmul_kernels amx_int8_matmul_kernels{.isa = instruction_set::amx_int8,
                                             .tiled_rows = min_tokens,
                                             .quantize_row = avx2::quantize_row,
                                             .ternary_matmul = ternary_matmul,
                                             .add_ternary_matmul = add_ternary_matmul,
                                             .gated_matmul = gated_matmul,
                                             .head_int8 = head_int8,
                                             .head_f16 = avx2::head_f16};

}  // namespace bitnet::kernels
