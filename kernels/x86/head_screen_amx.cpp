#include "kernels/head_screen_variants.hpp"
#include "kernels/x86/products_amx.hpp"

#include <limits>

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

/// Sums as they are, in the bits of floats, and the greatest of each token. Over max_matrix_cols columns
/// those of scaled codes stay within 240 * 128 * 65536 < 2^31.
class scoring {
 public:
  scoring(const head_screen* const* w, const activation_rows&, const screen_scores& out)
      : rows_(w[0]->rows()), maxima_(out.maxima), stride_(out.maxima_stride) {}

  void begin(std::size_t block) {
    block_ = block;
    present_ = block_halves(rows_ - block * block_rows);
  }

  [[gnu::always_inline]] void scale(std::size_t m, const std::int32_t* sums, __m512& low,
                                    __m512& high) const {
    const __m512i lower = _mm512_load_si512(sums);
    const __m512i upper = _mm512_srai_epi32(_mm512_load_si512(sums + 16), 4);
    const __m512i least = _mm512_set1_epi32(std::numeric_limits<std::int32_t>::min());
    const __m512i all = _mm512_max_epi32(_mm512_mask_mov_epi32(least, present_.low, lower),
                                         _mm512_mask_mov_epi32(least, present_.high, upper));
    const __m256i eight = _mm256_max_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    __m128i most = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4E));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xB1));
    maxima_[m * stride_ + block_] = _mm_cvtsi128_si32(most);
    low = _mm512_castsi512_ps(lower);
    high = _mm512_castsi512_ps(upper);
  }

 private:
  std::size_t rows_;
  std::int32_t* maxima_;
  std::size_t stride_;
  std::size_t block_ = 0;
  block_halves present_;
};

struct screen_product {
  using matrix = head_screen;
  using tiles = unpacked_tiles<screen_codes>;
  using writer = product_rows<scoring, false, true>;
  static constexpr std::size_t matrices = 1;
};

void scores(const head_screen& w, const activation_rows& x, const screen_scores& out, work_range blocks) {
  if (x.layout() == activation_layout::rows)
    avx512_head_screen_kernels.scores(w, x, out, blocks);
  else
    multiply<screen_product>({&w}, x, reinterpret_cast<float*>(out.scores), out.stride, blocks, out);
}

void rescore(const head_screen& w, const float* scales, const activation_rows& x, std::size_t m,
             const std::uint32_t* rows, std::size_t count, float* logits) {
  avx512_head_screen_kernels.rescore(w, scales, x, m, rows, count, logits);
}

}  // namespace

const head_screen_kernels amx_head_screen_kernels{.scores = scores, .rescore = rescore};

}  // namespace bitnet::kernels
