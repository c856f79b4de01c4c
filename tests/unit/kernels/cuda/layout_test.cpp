#include "kernels/cuda/layout.hpp"

#include "kernels/bfloat16.hpp"
#include "kernels/cuda/packing.hpp"
#include "kernels/vector.hpp"

#include <boost/test/unit_test.hpp>

#include <random>
#include <set>
#include <vector>

namespace {

using namespace bitnet;
using namespace bitnet::kernels::cuda;

std::vector<std::int8_t> random_trits(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::int8_t> trits(n);
  for (auto& trit : trits) trit = static_cast<std::int8_t>(static_cast<int>(random() % 3) - 1);
  return trits;
}

kernels::ternary_matrix pack(const std::vector<std::int8_t>& trits, std::size_t rows, std::size_t cols,
                             float scale) {
  kernels::ternary_matrix m(rows, cols, scale);
  for (std::size_t block = 0; block < m.block_count(); ++block)
    m.pack_block(block, trits.data() + block * kernels::ternary_matrix::block_rows * cols);
  return m;
}

int stored(const packed_matrix& m, std::size_t row, std::size_t col) {
  const auto place = ternary_place_of(row, col, m.padded_cols);
  return (m.tiles[place.byte] >> place.shift & 3) - 1;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cuda_layout)

BOOST_AUTO_TEST_CASE(every_ternary_weight_has_a_place_of_its_own) {
  constexpr std::size_t rows = 16;
  constexpr std::size_t cols = 512;
  std::set<std::pair<std::size_t, unsigned>> places;
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t col = 0; col < cols; ++col) {
      const auto place = ternary_place_of(row, col, cols);
      BOOST_TEST(place.byte < rows * cols / 4);
      places.insert({place.byte, place.shift});
    }
  BOOST_TEST(places.size() == rows * cols);
}

BOOST_AUTO_TEST_CASE(a_lane_holds_columns_of_one_row_in_the_order_of_the_fragments) {
  // Word j of lane 4 g + c, field f, byte b: row g, column 64 j + 16 c + 4 f + b.
  for (std::size_t g = 0; g < 8; ++g)
    for (std::size_t c = 0; c < 4; ++c)
      for (std::size_t j = 0; j < 4; ++j)
        for (std::size_t f = 0; f < 4; ++f)
          for (std::size_t b = 0; b < 4; ++b) {
            const auto place = ternary_place_of(8 + g, 256 + 64 * j + 16 * c + 4 * f + b, 512);
            BOOST_TEST(place.byte == 3 * tile_bytes + (4 * g + c) * 16 + 4 * j + b);
            BOOST_TEST(place.shift == 2 * f);
          }
}

BOOST_AUTO_TEST_CASE(an_int8_lane_holds_sixteen_consecutive_columns) {
  for (std::size_t g = 0; g < 8; ++g)
    for (std::size_t col = 0; col < 64; ++col)
      BOOST_TEST(int8_place_of(8 + g, 64 + col, 256) == 5 * tile_bytes + (4 * g + col / 16) * 16 + col % 16);
}

BOOST_AUTO_TEST_CASE(packing_several_matrices_keeps_their_weights_and_scales) {
  constexpr std::size_t cols = 300;
  const auto first = random_trits(37 * cols, 1);
  const auto second = random_trits(5 * cols, 2);
  const auto a = pack(first, 37, cols, 0.5F);
  const auto b = pack(second, 5, cols, 2.0F);
  const kernels::ternary_matrix* parts[] = {&a, &b};
  const auto m = pack_ternary(parts);
  BOOST_TEST(m.rows == 42U);
  BOOST_TEST(m.padded_rows == 48U);
  BOOST_TEST(m.padded_cols == 512U);
  BOOST_TEST(m.tiles.size() == 48U * 512U / 4U);
  for (std::size_t row = 0; row < m.padded_rows; ++row) {
    BOOST_TEST(m.row_scales[row] == (row < 37 ? 0.5F : row < 42 ? 2.0F : 0.0F));
    for (std::size_t col = 0; col < m.padded_cols; ++col) {
      const int expected = col >= cols || row >= 42 ? 0
                           : row < 37               ? first[row * cols + col]
                                                    : second[(row - 37) * cols + col];
      if (stored(m, row, col) != expected) BOOST_TEST_ERROR("weight " << row << ", " << col);
    }
  }
}

BOOST_AUTO_TEST_CASE(packing_the_head_takes_the_offset_out) {
  constexpr std::size_t rows = 40;
  constexpr std::size_t cols = 70;
  kernels::head_matrix head(rows, cols, kernels::head_matrix::format::int8);
  std::mt19937 random(3);
  std::vector<float> values(rows * cols);
  for (auto& v : values) v = static_cast<float>(random() % 2001) / 1000.0F - 1.0F;
  head.pack_block(0, values.data());
  head.pack_block(1, values.data() + 32 * cols);
  const auto m = pack_head(head);
  for (std::size_t row = 0; row < rows; ++row) {
    BOOST_TEST(m.row_scales[row] == head.row_scales()[row]);
    for (std::size_t col = 0; col < m.padded_cols; ++col) {
      const auto q = static_cast<std::int8_t>(m.tiles[int8_place_of(row, col, m.padded_cols)]);
      const int expected =
          col >= cols
              ? 0
              : head.int8_block(row / 32)[kernels::head_matrix::int8_offset_in_block(row % 32, col)] - 128;
      if (q != expected) BOOST_TEST_ERROR("weight " << row << ", " << col);
    }
  }
}

BOOST_AUTO_TEST_CASE(keys_and_values_lie_where_the_cpu_puts_them) {
  const auto& cpu = kernels::vector_kernels_for(kernels::instruction_set::scalar);
  for (const std::size_t head_dim : {6, 16, 100}) {
    constexpr std::size_t kv_heads = 3;
    std::vector<std::byte> block(kernels::kv_block_bytes(kv_heads, head_dim));
    std::vector<float> k(kv_heads * head_dim);
    std::vector<float> v(kv_heads * head_dim);
    for (std::size_t i = 0; i < k.size(); ++i) {
      k[i] = kernels::float_from_bfloat16(static_cast<std::uint16_t>(0x3F80 + i));
      v[i] = -k[i];
    }
    constexpr std::size_t slot = 37;
    cpu.store_kv(block.data(), slot, k.data(), v.data(), kv_heads, head_dim);
    const auto* const numbers = reinterpret_cast<const std::uint16_t*>(block.data());
    for (std::size_t h = 0; h < kv_heads; ++h)
      for (std::size_t i = 0; i < head_dim; ++i) {
        const auto key = numbers[key_offset(h, i, slot, head_dim)];
        const auto value = numbers[value_offset(h, i, slot, kv_heads, head_dim)];
        // -x differs from x in the sign bit only.
        BOOST_TEST(key == 0x3F80 + h * head_dim + i);
        BOOST_TEST(value == (key ^ 0x8000));
      }
  }
}

BOOST_AUTO_TEST_SUITE_END()
