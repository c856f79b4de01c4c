#include "kernels/head_screen_variants.hpp"
#include "kernels/x86/products_amx.hpp"

namespace bitnet::kernels {

namespace {

static_assert(block_rows == head_screen::block_rows);

/// A chunk of a screen is a row of both tiles: rows 0..15 of the block as codes 0..15, rows 16..31 as codes
/// scaled by 16.
struct screen_codes {
  using matrix = head_screen;
  static constexpr std::size_t step_bytes = 1024;

  [[gnu::always_inline]] static void unpack(const std::uint8_t* eighth, std::uint8_t* tiles) {
    const __m512i low_code = _mm512_set1_epi8(0x0F);
    for (std::size_t row = 0; row < 128; row += 64) {
      const __m512i x = _mm512_loadu_si512(eighth + row);
      _mm512_store_si512(tiles + row, _mm512_and_si512(x, low_code));
      _mm512_store_si512(tiles + tile_bytes + row, _mm512_andnot_si512(low_code, x));
    }
  }
};

/// Sums as they are, in the bits of floats. Over max_matrix_cols columns those of scaled codes stay within
/// 240 * 128 * 65536 < 2^31.
class screen_scores {
 public:
  screen_scores(const head_screen* const*, const activation_rows&) {}

  void begin(std::size_t) {}

  [[gnu::always_inline]] void scale(std::size_t, const std::int32_t* sums, __m512& low, __m512& high) const {
    low = _mm512_castsi512_ps(_mm512_load_si512(sums));
    high = _mm512_castsi512_ps(_mm512_srai_epi32(_mm512_load_si512(sums + 16), 4));
  }
};

struct screen_product {
  using matrix = head_screen;
  using tiles = unpacked_tiles<screen_codes>;
  using writer = product_rows<screen_scores, false>;
  static constexpr std::size_t matrices = 1;
};

void scores(const head_screen& w, const activation_rows& x, std::int32_t* out, std::size_t stride,
            work_range blocks) {
  if (x.layout() == activation_layout::rows)
    avx512_head_screen_kernels.scores(w, x, out, stride, blocks);
  else
    multiply<screen_product>({&w}, x, reinterpret_cast<float*>(out), stride, blocks);
}

void rescore(const head_screen& w, const float* scales, const activation_rows& x, std::size_t m,
             const std::uint32_t* rows, std::size_t count, float* logits) {
  avx512_head_screen_kernels.rescore(w, scales, x, m, rows, count, logits);
}

}  // namespace

const head_screen_kernels amx_head_screen_kernels{.scores = scores, .rescore = rescore};

}  // namespace bitnet::kernels
