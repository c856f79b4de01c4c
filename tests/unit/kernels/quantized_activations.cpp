#include "kernels/matmul.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdint>

using bitnet::kernels::quantized_activations;

BOOST_AUTO_TEST_SUITE(quantized_activations_storage)

BOOST_AUTO_TEST_CASE(rows_are_aligned_and_an_odd_number_of_cache_lines_apart) {
  quantized_activations x;
  for (const std::size_t cols : {1, 64, 65, 2560, 4096, 6912}) {
    x.resize(5, cols);
    BOOST_TEST(x.padded_cols() == (cols + 63) / 64 * 64);
    BOOST_TEST(x.row_stride() >= x.padded_cols());
    BOOST_TEST(x.row_stride() / 64 % 2 == 1U);
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(x.row(3)) % 64 == 0U);
  }
}

BOOST_AUTO_TEST_CASE(rows_are_readable_up_to_the_next_multiple_of_sixteen) {
  quantized_activations x;
  x.resize(17, 100);
  // A page fault or the address sanitizer would end the test.
  int sum = 0;
  for (std::size_t r = 0; r < 32; ++r)
    sum += std::count(x.row(r), x.row(r) + x.padded_cols(), std::int8_t{0});
  BOOST_TEST(sum == 32 * 128);
}

BOOST_AUTO_TEST_CASE(the_padding_is_zero_after_a_resize_to_fewer_columns) {
  quantized_activations x;
  x.resize(4, 256);
  for (std::size_t r = 0; r < 4; ++r) std::fill_n(x.row(r), 256, std::int8_t{9});
  x.resize(3, 130);
  for (std::size_t r = 0; r < 3; ++r)
    BOOST_TEST(std::all_of(x.row(r) + 130, x.row(r) + x.padded_cols(), [](std::int8_t q) { return q == 0; }));
}

BOOST_AUTO_TEST_CASE(tiles_hold_sixteen_rows_of_a_step_side_by_side) {
  quantized_activations x;
  x.resize(33, 130, bitnet::kernels::activation_layout::tiles);
  const auto offset = [&](std::size_t r, std::size_t col) { return &x.at(r, col) - x.step(0, 0); };
  BOOST_TEST(x.padded_cols() == 192U);
  BOOST_TEST(offset(0, 63) == 63);
  BOOST_TEST(offset(1, 0) == 64);
  BOOST_TEST(offset(15, 5) == 15 * 64 + 5);
  BOOST_TEST(offset(0, 64) == 1024);
  BOOST_TEST(offset(16, 0) == 3 * 1024);
  BOOST_TEST(offset(32, 129) == 6 * 1024 + 2 * 1024 + 1);
  BOOST_TEST(x.step_stride() == 1024U);
  BOOST_TEST(reinterpret_cast<std::uintptr_t>(x.step(0, 0)) % 64 == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
