#include "kernels/half.hpp"
#include "kernels/matrix.hpp"
#include "tests/unit/kernels/matmul_checks.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>

using bitnet::kernels::head_matrix;
using bitnet::kernels::max_matrix_cols;
using bitnet::kernels::ternary_matrix;
using bitnet::kernels::weight_buffer;

BOOST_AUTO_TEST_SUITE(matrix_packing)

BOOST_AUTO_TEST_CASE(weight_buffers_are_aligned_to_huge_pages_and_zeroed) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{5} << 20}) {
    const weight_buffer buffer(bytes);
    BOOST_TEST(buffer.size() == bytes);
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(buffer.data()) % (2U << 20) == 0U);
    BOOST_TEST(
        std::all_of(buffer.data(), buffer.data() + bytes, [](std::byte b) { return b == std::byte{0}; }));
  }
  BOOST_TEST(weight_buffer(0).data() == nullptr);
}

BOOST_AUTO_TEST_CASE(a_buffer_that_no_machine_has_throws_bad_alloc) {
  BOOST_CHECK_THROW(weight_buffer(std::size_t{1} << 60), std::bad_alloc);
  BOOST_CHECK_THROW(ternary_matrix(std::size_t{1} << 50, 60000, 1.0F), std::bad_alloc);
  BOOST_CHECK_THROW(
      head_matrix(std::numeric_limits<std::size_t>::max() / 64, 60000, head_matrix::format::f16),
      std::bad_alloc);
}

BOOST_AUTO_TEST_CASE(a_matrix_too_wide_for_the_integer_sums_is_refused) {
  BOOST_CHECK_THROW(ternary_matrix(1, max_matrix_cols + 1, 1.0F), std::length_error);
  BOOST_CHECK_THROW(head_matrix(1, max_matrix_cols + 1, head_matrix::format::int8), std::length_error);
  BOOST_CHECK_NO_THROW(ternary_matrix(1, max_matrix_cols, 1.0F));
}

BOOST_AUTO_TEST_CASE(ternary_rows_unpack_to_what_was_packed) {
  for (std::size_t rows = 1; rows <= 70; rows += 3) {
    for (const std::size_t cols : {1, 2, 3, 5, 8, 63, 64, 65, 131, 700}) {
      const auto weights = bitnet::test::random_ternary(rows, cols, rows + cols);
      const ternary_matrix w = bitnet::test::pack_ternary(weights, rows, cols, 1.0F);
      std::vector<std::int8_t> unpacked(weights.size());
      for (std::size_t r = 0; r < rows; ++r) w.unpack_row(r, unpacked.data() + r * cols);
      BOOST_TEST(unpacked == weights);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_fresh_ternary_matrix_is_zero) {
  const ternary_matrix w(33, 70, 1.0F);
  std::vector<std::int8_t> row(70, 5);
  w.unpack_row(32, row.data());
  BOOST_TEST(std::count(row.begin(), row.end(), 0) == 70);
}

// The layout is a contract with the kernels and with checksums: byte j, field f of a chunk holds row
// j / 4 + 16 * (f & 1), column j % 4 + 4 * (f >> 1).
BOOST_AUTO_TEST_CASE(one_weight_sets_the_field_that_the_layout_names) {
  for (std::size_t row = 0; row < 32; ++row) {
    for (std::size_t col = 0; col < 16; ++col) {
      std::vector<std::int8_t> weights(32 * 16, 0);
      weights[row * 16 + col] = 1;
      const ternary_matrix w = bitnet::test::pack_ternary(weights, 32, 16, 1.0F);
      for (std::size_t byte = 0; byte < 512; ++byte) {
        int expected = 0x55;
        if (byte == col / 8 * 64 + row % 16 * 4 + col % 4)
          expected += 1 << (2 * (row / 16 + 2 * (col / 4 % 2)));
        BOOST_REQUIRE_EQUAL(static_cast<int>(w.block(0)[byte]), expected);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(padding_rows_and_columns_hold_weight_zero) {
  const auto weights = bitnet::test::random_ternary(33, 70, 1);
  const ternary_matrix w = bitnet::test::pack_ternary(weights, 33, 70, 1.0F);
  // Columns 72 and up lie in chunks of their own.
  BOOST_TEST(std::count(w.block(0) + 9 * 64, w.block(0) + 16 * 64, 0x55) == 7 * 64);
  // In the second block only bytes 0..3, fields 0 and 2, belong to row 32.
  BOOST_TEST(std::count(w.block(1) + 4, w.block(1) + 64, 0x55) == 60);
}

BOOST_AUTO_TEST_CASE(int8_heads_store_each_row_by_its_own_scale) {
  const std::size_t rows = 35;
  const std::size_t cols = 70;
  std::vector<float> values(rows * cols);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(static_cast<int>(i * 7919 % 255) - 127) * static_cast<float>(i / cols);
  head_matrix head(rows, cols, head_matrix::format::int8);
  for (std::size_t b = 0; b < head.block_count(); ++b) head.pack_block(b, values.data() + b * 32 * cols);
  BOOST_TEST(head.row_scales()[0] == 0.0F);
  for (std::size_t r = 1; r < rows; ++r) {
    for (std::size_t k = 0; k < cols; ++k) {
      const int stored = head.int8_block(r / 32)[head_matrix::int8_offset_in_block(r % 32, k)] - 128;
      BOOST_TEST(stored == std::nearbyint(values[r * cols + k] / head.row_scales()[r]));
      BOOST_TEST(std::abs(stored) <= 127);
    }
  }
}

BOOST_AUTO_TEST_CASE(subnormal_head_rows_stay_within_seven_bits) {
  std::vector<float> values(64, 0.0F);
  for (std::size_t k = 0; k < values.size(); ++k)
    values[k] = static_cast<float>(k) * std::numeric_limits<float>::denorm_min();
  head_matrix head(1, 64, head_matrix::format::int8);
  head.pack_block(0, values.data());
  BOOST_TEST(head.int8_block(0)[head_matrix::int8_offset_in_block(0, 63)] <= 255);
  BOOST_TEST(head.int8_block(0)[head_matrix::int8_offset_in_block(0, 0)] == 128);
}

BOOST_AUTO_TEST_CASE(a_head_row_that_is_not_finite_gets_the_scale_nan) {
  std::vector<float> values(3 * 8, 1.0F);
  values[8] = std::numeric_limits<float>::quiet_NaN();
  values[16] = std::numeric_limits<float>::infinity();
  head_matrix head(3, 8, head_matrix::format::int8);
  head.pack_block(0, values.data());
  BOOST_TEST(std::isfinite(head.row_scales()[0]));
  BOOST_TEST(std::isnan(head.row_scales()[1]));
  BOOST_TEST(std::isnan(head.row_scales()[2]));
}

BOOST_AUTO_TEST_CASE(f16_heads_keep_halves_exactly) {
  const std::size_t cols = 33;
  std::vector<float> values(2 * cols);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.125F - 4.0F;
  head_matrix head(2, cols, head_matrix::format::f16);
  head.pack_block(0, values.data());
  for (std::size_t i = 0; i < values.size(); ++i)
    BOOST_TEST(bitnet::kernels::float_from_half(head.f16_row(i / cols)[i % cols]) == values[i]);
}

BOOST_AUTO_TEST_SUITE_END()
