#include "kernels/head_screen_variants.hpp"
#include "kernels/x86/products_avx512.hpp"

namespace bitnet::kernels {

namespace avx512 {

namespace {

static_assert(block_rows == head_screen::block_rows);

struct screen_product {
  using output = std::int32_t;
  static constexpr std::size_t step_bytes = 1024;
  static constexpr std::size_t chunk_cols = 4;
  static constexpr std::size_t lines = 1;
  static const std::uint8_t* block(const head_screen& w, std::size_t b) { return w.block(b); }

  /// Adds the products of 4 columns with `Tokens` rows of activations from q. The sums of rows 16..31 come
  /// out scaled by 16: their codes are masked where they lie. Over max_matrix_cols columns they stay within
  /// 240 * 128 * 65536 < 2^31.
  template <std::size_t Tokens>
  [[gnu::always_inline]] static void add_chunk(const std::uint8_t* chunk, const std::int8_t* q,
                                               std::size_t q_stride, row_sums* sums) {
    const __m512i x = load(chunk);
    const __m512i low = _mm512_and_si512(x, _mm512_set1_epi8(0x0F));
    const __m512i high = _mm512_andnot_si512(_mm512_set1_epi8(0x0F), x);
#pragma GCC unroll 8
    for (std::size_t t = 0; t < Tokens; ++t) {
      const __m512i a = broadcast(q + t * q_stride);
      add(sums[t].half[0], low, a);
      add(sums[t].half[1], high, a);
    }
  }

  static void store(const head_screen&, const activation_rows&, std::size_t, std::size_t, std::size_t rows,
                    const row_sums& sums, std::int32_t* y) {
    const __m512i high = _mm512_srai_epi32(sums.half[1], 4);
    if (rows == block_rows) {
      _mm512_storeu_si512(y, sums.half[0]);
      _mm512_storeu_si512(y + 16, high);
      return;
    }
    alignas(64) std::int32_t out[block_rows];
    _mm512_storeu_si512(out, sums.half[0]);
    _mm512_storeu_si512(out + 16, high);
    for (std::size_t r = 0; r < rows; ++r) y[r] = out[r];
  }
};

void scores(const head_screen& w, const activation_rows& x, const screen_scores& out, work_range blocks) {
  multiply<screen_product>(w, x, out.scores, out.stride, blocks);
  find_block_maxima(w, x.rows(), out, blocks);
}

void rescore(const head_screen& w, const float* scales, const activation_rows& x, std::size_t m,
             const std::uint32_t* rows, std::size_t count, float* logits) {
  const std::size_t steps = w.padded_cols() / step_cols;
  const std::int32_t excess = head_matrix::int8_weight_offset * x.row_sum()[m];
  const float token_scale = x.row_scale()[m];
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t* const row = w.int8_row(rows[i]);
    const std::uint8_t* const next = w.int8_row(rows[i + 1 < count ? i + 1 : i]);
    __m512i sum = _mm512_setzero_si512();
    for (std::size_t s = 0; s < steps; ++s) {
      prefetch(next + s * step_cols);
      add(sum, load(row + s * step_cols), load(x.step(m, s)));
    }
    alignas(64) std::int32_t lanes[16];
    _mm512_storeu_si512(lanes, sum);
    std::int32_t dot = -excess;
    for (const std::int32_t lane : lanes) dot += lane;
    logits[i] = static_cast<float>(dot) * (token_scale * scales[rows[i]]);
  }
}

}  // namespace

}  // namespace avx512

const head_screen_kernels avx512_head_screen_kernels{.scores = avx512::scores, .rescore = avx512::rescore};

}  // namespace bitnet::kernels
