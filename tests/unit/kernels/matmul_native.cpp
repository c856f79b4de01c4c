#include "tests/unit/kernels/matmul_checks.hpp"

#include <boost/test/unit_test.hpp>

// Every instruction set that this machine has, against sums written out from the unpacked weights.

namespace {

using bitnet::kernels::matmul_kernels;
using bitnet::kernels::matmul_kernels_for;
using bitnet::test::activations;

template <typename Check>
void for_each_native_table(Check check) {
  for (const auto isa : bitnet::kernels::supported_instruction_sets()) {
    const matmul_kernels& table = matmul_kernels_for(isa);
    BOOST_TEST_MESSAGE("native " << to_string(isa));
    BOOST_TEST_CONTEXT(to_string(isa)) {
      BOOST_TEST(to_string(table.isa) == to_string(isa));
      check(table);
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(matmul_native)

BOOST_AUTO_TEST_CASE(ternary_products_are_exact_for_odd_shapes_and_any_split) {
  for_each_native_table([](const matmul_kernels& table) {
    for (const auto& shape : bitnet::test::odd_shapes())
      bitnet::test::check_ternary_matmul(table, shape, activations::random);
  });
}

BOOST_AUTO_TEST_CASE(ternary_products_are_exact_for_extreme_activations) {
  for_each_native_table([](const matmul_kernels& table) {
    for (const auto kind : {activations::lowest, activations::highest, activations::zero})
      for (const std::size_t tokens : {1, 2, 3, 4, 7, 16, 20, 50})
        bitnet::test::check_ternary_matmul(table, {67, 2000, tokens}, kind);
  });
}

BOOST_AUTO_TEST_CASE(products_are_added_and_gated_with_the_bits_of_separate_steps) {
  for_each_native_table([](const matmul_kernels& table) {
    for (const auto& shape : bitnet::test::odd_shapes()) bitnet::test::check_fused_matmul(table, shape);
  });
}

BOOST_AUTO_TEST_CASE(int8_heads_are_exact_for_odd_shapes_and_any_split) {
  for_each_native_table([](const matmul_kernels& table) {
    for (const auto& shape : bitnet::test::odd_shapes())
      bitnet::test::check_head_int8(table, shape, activations::random);
  });
}

BOOST_AUTO_TEST_CASE(int8_heads_are_exact_for_extreme_activations) {
  for_each_native_table([](const matmul_kernels& table) {
    for (const auto kind : {activations::lowest, activations::highest, activations::zero})
      for (const std::size_t tokens : {1, 2, 5, 17, 40})
        bitnet::test::check_head_int8(table, {67, 2000, tokens}, kind);
  });
}

BOOST_AUTO_TEST_CASE(f16_heads_sum_in_the_fixed_order) {
  for_each_native_table([](const matmul_kernels& table) {
    for (const auto& shape : bitnet::test::odd_shapes())
      if (shape.tokens < 20) bitnet::test::check_head_f16(table, shape);
  });
}

BOOST_AUTO_TEST_CASE(rows_are_quantised_by_the_rule) {
  for_each_native_table([](const matmul_kernels& table) {
    for (const std::size_t cols : {1, 2, 7, 8, 31, 32, 33, 63, 64, 65, 100, 128, 1000, 2560})
      for (const std::size_t tokens : {3, 20}) bitnet::test::check_quantize_row(table, tokens, cols);
  });
}

BOOST_AUTO_TEST_SUITE_END()
