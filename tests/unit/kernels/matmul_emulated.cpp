#include "kernels/matmul.hpp"
#include "tests/support/emulation/amx_tiles.hpp"
#include "tests/unit/kernels/matmul_checks.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>

// The sources of the wider instruction sets, compiled against software vectors and tiles
// (tests/support/emulation): their logic is checked on machines that lack the instructions. The native suite
// covers machines that have them.

namespace bitnet::kernels {
extern const matmul_kernels emulated_avx_vnni_matmul_kernels;
extern const matmul_kernels emulated_avx512_vnni_matmul_kernels;
extern const matmul_kernels emulated_amx_int8_matmul_kernels;
extern const head_screen_kernels emulated_avx_vnni_head_screen_kernels;
extern const head_screen_kernels emulated_avx512_head_screen_kernels;
extern const head_screen_kernels emulated_amx_head_screen_kernels;
void emulated_base3_matmul_avx512(const base3_matrix& w, const activation_rows& x, float* y,
                                  std::size_t y_stride, work_range blocks);
}  // namespace bitnet::kernels

namespace {

using bitnet::kernels::instruction_set;
using bitnet::kernels::matmul_kernels;
using bitnet::test::activations;
using bitnet::test::matmul_shape;

template <typename Check>
void for_each_emulated_table(Check check) {
  for (const matmul_kernels* table : {&bitnet::kernels::emulated_avx_vnni_matmul_kernels,
                                      &bitnet::kernels::emulated_avx512_vnni_matmul_kernels,
                                      &bitnet::kernels::emulated_amx_int8_matmul_kernels}) {
    BOOST_TEST_MESSAGE("emulated " << to_string(table->isa));
    BOOST_TEST_CONTEXT("emulated " << to_string(table->isa)) {
      try {
        check(*table);
      } catch (const bitnet::test::amx::fault& fault) {
        BOOST_ERROR("the CPU would fault: " << fault.what);
      }
    }
  }
}

/// Fewer than the native suite has: software vectors are slow.
std::vector<matmul_shape> shapes() {
  std::vector<matmul_shape> result;
  for (const matmul_shape& shape : bitnet::test::odd_shapes())
    if (result.size() % 2 == 0 || shape.tokens > 3) result.push_back(shape);
  return result;
}

/// Tiles 0 (sums), 1 (left) and 2 (right) with 2 x 3 sums over 8 columns.
void configure(std::uint8_t sum_rows) {
  std::uint8_t config[64] = {1};
  const auto set = [&](std::size_t t, std::uint8_t rows, std::uint8_t row_bytes) {
    config[16 + 2 * t] = row_bytes;
    config[48 + t] = rows;
  };
  set(0, sum_rows, 12);
  set(1, 2, 8);
  set(2, 2, 12);
  bitnet::test::amx::load_config(config);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(matmul_emulated)

BOOST_AUTO_TEST_CASE(ternary_products_are_exact_for_odd_shapes_and_any_split) {
  for_each_emulated_table([](const matmul_kernels& table) {
    for (const auto& shape : shapes()) bitnet::test::check_ternary_matmul(table, shape, activations::random);
  });
}

BOOST_AUTO_TEST_CASE(ternary_products_are_exact_for_extreme_activations) {
  for_each_emulated_table([](const matmul_kernels& table) {
    for (const auto kind : {activations::lowest, activations::highest})
      for (const std::size_t tokens : {1, 3, 4, 16, 20})
        bitnet::test::check_ternary_matmul(table, {67, 2000, tokens}, kind);
  });
}

BOOST_AUTO_TEST_CASE(products_are_added_and_gated_with_the_bits_of_separate_steps) {
  for_each_emulated_table([](const matmul_kernels& table) {
    for (const auto& shape : shapes()) bitnet::test::check_fused_matmul(table, shape);
  });
}

BOOST_AUTO_TEST_CASE(base3_products_are_exact) {
  const auto multiply = bitnet::kernels::emulated_base3_matmul_avx512;
  for (const auto& shape : shapes())
    if (shape.tokens < 10) bitnet::test::check_base3_matmul(multiply, shape, activations::random);
  for (const auto kind : {activations::lowest, activations::highest})
    for (const std::size_t tokens : {1, 3, 4})
      bitnet::test::check_base3_matmul(multiply, {167, 2000, tokens}, kind);
}

BOOST_AUTO_TEST_CASE(int8_heads_are_exact) {
  for (const matmul_kernels* table : {&bitnet::kernels::emulated_avx512_vnni_matmul_kernels,
                                      &bitnet::kernels::emulated_amx_int8_matmul_kernels}) {
    for (const auto& shape : shapes()) bitnet::test::check_head_int8(*table, shape, activations::random);
    for (const auto kind : {activations::lowest, activations::highest})
      for (const std::size_t tokens : {1, 5, 17})
        bitnet::test::check_head_int8(*table, {67, 2000, tokens}, kind);
  }
}

BOOST_AUTO_TEST_CASE(screens_and_rescored_rows_are_exact) {
  const std::pair<const bitnet::kernels::head_screen_kernels*, const matmul_kernels*> tables[] = {
      {&bitnet::kernels::emulated_avx_vnni_head_screen_kernels,
       &bitnet::kernels::emulated_avx_vnni_matmul_kernels},
      {&bitnet::kernels::emulated_avx512_head_screen_kernels,
       &bitnet::kernels::emulated_avx512_vnni_matmul_kernels},
      {&bitnet::kernels::emulated_amx_head_screen_kernels,
       &bitnet::kernels::emulated_amx_int8_matmul_kernels}};
  for (const auto& [table, products] : tables) {
    const auto check = [&](const matmul_shape& shape, activations kind) {
      bitnet::test::check_screen_scores(*table, shape, kind, products->layout(shape.tokens));
    };
    BOOST_TEST_CONTEXT("emulated " << to_string(products->isa)) {
      for (const auto& shape : shapes()) {
        check(shape, activations::random);
        if (shape.tokens < 10)
          bitnet::test::check_rescoring(*table, shape, bitnet::kernels::activation_layout::tiles);
      }
      for (const auto kind : {activations::lowest, activations::highest})
        for (const std::size_t tokens : {1, 5}) check({67, 2000, tokens}, kind);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

// The emulation itself: what it accepts and what it computes, by hand.
BOOST_AUTO_TEST_SUITE(amx_emulation)

BOOST_AUTO_TEST_CASE(a_product_sums_signed_times_unsigned_bytes) {
  configure(2);
  const std::int8_t left[2][8] = {{1, -2, 3, 0, 0, 0, 0, 5}, {-128, 0, 0, 0, 127, 0, 0, 0}};
  std::uint8_t right[2][12] = {};
  right[0][0] = 200;  // columns 0, 1, 2 and 7 of row 0
  right[0][1] = 10;
  right[0][2] = 1;
  right[1][3] = 255;
  right[0][8] = 255;  // columns 0 and 4 of row 2
  right[1][8] = 255;
  std::int32_t sums[2][3] = {{1, 1, 1}, {0, 0, 0}};
  bitnet::test::amx::load(0, sums, 12);
  bitnet::test::amx::load(1, left, 8);
  bitnet::test::amx::load(2, right, 12);
  bitnet::test::amx::multiply_signed_unsigned(0, 1, 2);
  bitnet::test::amx::store(0, sums, 12);
  BOOST_TEST(sums[0][0] == 1 + 200 - 20 + 3 + 5 * 255);
  BOOST_TEST(sums[0][1] == 1);
  BOOST_TEST(sums[0][2] == 1 + 255);
  BOOST_TEST(sums[1][0] == -128 * 200);
  BOOST_TEST(sums[1][2] == -255);
  bitnet::test::amx::release();
}

BOOST_AUTO_TEST_CASE(what_the_cpu_would_refuse_throws) {
  bitnet::test::amx::release();
  BOOST_CHECK_THROW(bitnet::test::amx::zero(0), bitnet::test::amx::fault);
  configure(1);
  BOOST_CHECK_THROW(bitnet::test::amx::multiply_signed_unsigned(0, 1, 2), bitnet::test::amx::fault);
  const std::uint8_t other_palette[64] = {2};
  BOOST_CHECK_THROW(bitnet::test::amx::load_config(other_palette), bitnet::test::amx::fault);
  bitnet::test::amx::release();
}

BOOST_AUTO_TEST_SUITE_END()
