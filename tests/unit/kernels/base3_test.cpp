#include "kernels/base3.hpp"

#include "tests/unit/kernels/matmul_checks.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstring>

// Five weights a byte: the same sums as with two bits a weight, on every instruction set that this machine
// has.

namespace {

using bitnet::kernels::base3_matmul;
using bitnet::kernels::base3_matmul_for;
using bitnet::kernels::base3_matrix;
using bitnet::kernels::weight_arena;
using bitnet::test::activations;

template <typename Check>
void for_each_native_product(Check check) {
  for (const auto isa : bitnet::kernels::supported_instruction_sets()) {
    const base3_matmul multiply = base3_matmul_for(isa);
    if (multiply == nullptr) continue;
    BOOST_TEST_CONTEXT(to_string(isa)) {
      check(multiply);
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(base3)

BOOST_AUTO_TEST_CASE(the_reference_always_exists_and_the_fast_one_where_bytes_can_be_permuted) {
  using bitnet::kernels::instruction_set;
  BOOST_TEST((base3_matmul_for(instruction_set::scalar) != nullptr));
  if (is_supported(instruction_set::avx512_vnni))
    BOOST_TEST((base3_matmul_for(instruction_set::avx512_vnni) != nullptr) ==
               bitnet::kernels::has_avx512_vbmi());
}

BOOST_AUTO_TEST_CASE(products_are_exact_for_odd_shapes_and_any_split) {
  for_each_native_product([](base3_matmul multiply) {
    for (const auto& shape : bitnet::test::odd_shapes())
      bitnet::test::check_base3_matmul(multiply, shape, activations::random);
    for (const std::size_t rows : {79, 80, 81, 159, 160, 240, 320, 333})
      for (const std::size_t tokens : {1, 2, 3, 4, 5, 9})
        bitnet::test::check_base3_matmul(multiply, {rows, 321, tokens}, activations::random);
  });
}

BOOST_AUTO_TEST_CASE(products_are_exact_for_extreme_activations) {
  for_each_native_product([](base3_matmul multiply) {
    for (const auto kind : {activations::lowest, activations::highest, activations::zero})
      for (const std::size_t tokens : {1, 2, 3, 4, 7})
        bitnet::test::check_base3_matmul(multiply, {167, 2000, tokens}, kind);
  });
}

BOOST_AUTO_TEST_CASE(products_are_exact_over_the_widest_matrix) {
  for_each_native_product([](base3_matmul multiply) {
    for (const auto kind : {activations::lowest, activations::highest})
      bitnet::test::check_base3_matmul(multiply, {82, bitnet::kernels::max_matrix_cols, 1}, kind);
  });
}

BOOST_AUTO_TEST_CASE(an_arena_hands_out_aligned_pieces_until_it_is_used_up) {
  weight_arena arena(3 << 20);
  const auto first = arena.take(100);
  const auto second = arena.take((3 << 20) - 128);
  BOOST_TEST(reinterpret_cast<std::uintptr_t>(second.data()) % 64 == 0U);
  BOOST_TEST((second.data() >= first.data() + first.size()));
  BOOST_CHECK_THROW(arena.take(1), std::bad_alloc);
}

BOOST_AUTO_TEST_CASE(an_arenas_memory_outlives_it) {
  bitnet::kernels::weight_buffer kept;
  {
    weight_arena arena(1 << 20);
    kept = arena.take(1 << 20);
  }
  std::memset(kept.data(), 7, kept.size());
  BOOST_TEST(
      std::all_of(kept.data(), kept.data() + kept.size(), [](std::byte b) { return b == std::byte{7}; }));
}

BOOST_AUTO_TEST_SUITE_END()
