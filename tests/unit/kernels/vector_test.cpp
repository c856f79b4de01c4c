#include "kernels/vector.hpp"

#include "tests/support/float_compare.hpp"
#include "tests/unit/kernels/tested_instruction_sets.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace bitnet::kernels;
using bitnet::kernels::test::accelerated_instruction_sets;
using bitnet::test::first_outside;
using bitnet::test::first_unequal;
using bitnet::test::same_float;
using bitnet::test::ulp_error;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
/// Unit round-off of float.
constexpr double u = 0x1p-24;

using floats = std::vector<float>;

floats random_floats(std::size_t n, std::uint32_t seed, float low = -4.0F, float high = 4.0F) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  floats out(n);
  for (float& x : out) x = distribution(generator);
  return out;
}

/// Random floats among which every tenth or so is one of the values that arithmetic treats specially.
floats hostile_floats(std::size_t n, std::uint32_t seed) {
  static constexpr float special[] = {0.0F,
                                      -0.0F,
                                      infinity,
                                      -infinity,
                                      not_a_number,
                                      std::numeric_limits<float>::denorm_min(),
                                      -0x1p-130F,
                                      std::numeric_limits<float>::max(),
                                      std::numeric_limits<float>::lowest(),
                                      -87.5F,
                                      88.8F};
  floats out = random_floats(n, seed);
  std::mt19937 generator(seed + 1);
  for (float& x : out)
    if (generator() % 10 == 0) x = special[generator() % std::size(special)];
  return out;
}

/// Runs `compute(kernels)` for the reference and every other instruction set and wants the same bits, at
/// sizes with every kind of tail.
template <class Compute>
void check_same_everywhere(Compute compute) {
  for (const instruction_set isa : accelerated_instruction_sets())
    for (std::size_t n = 1; n <= 300; ++n)
      for (const bool hostile : {false, true}) {
        const auto seed = static_cast<std::uint32_t>(n);
        const floats a = hostile ? hostile_floats(n, seed) : random_floats(n, seed);
        const floats b = hostile ? hostile_floats(n, seed + 7) : random_floats(n, seed + 7);
        const floats expected = compute(vector_kernels_for(instruction_set::scalar), a, b);
        const floats actual = compute(vector_kernels_for(isa), a, b);
        const auto where = first_unequal(expected, actual);
        if (where)  // Boost evaluates the operands of a message also where the check holds
          BOOST_FAIL(to_string(isa) << " differs from scalar at " << *where << " of " << n << ": "
                                    << actual[*where] << " instead of " << expected[*where]);
      }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(float_comparison)

BOOST_AUTO_TEST_CASE(comparator_finds_one_differing_element) {
  const floats a = {1.0F, -2.0F, 3.0F};
  BOOST_TEST(!first_unequal(a, a));
  for (std::size_t i = 0; i < a.size(); ++i) {
    floats b = a;
    b[i] = std::nextafter(b[i], infinity);
    BOOST_TEST(first_unequal(a, b).value() == i);
  }
  BOOST_TEST(first_unequal(a, floats{1.0F, -2.0F}).value() == 2U);
}

BOOST_AUTO_TEST_CASE(comparator_tells_special_values_apart) {
  BOOST_TEST(same_float(not_a_number, -not_a_number));
  BOOST_TEST(!same_float(not_a_number, 1.0F));
  BOOST_TEST(!same_float(1.0F, not_a_number));
  BOOST_TEST(!same_float(infinity, -infinity));
  BOOST_TEST(same_float(-infinity, -infinity));
  BOOST_TEST(!same_float(0.0F, -0.0F));
  BOOST_TEST(same_float(-3.0F, -3.0F));
}

BOOST_AUTO_TEST_CASE(tolerance_rejects_nan_infinity_and_excess) {
  const auto tolerance = [](std::size_t) { return 0.5; };
  const std::vector<double> exact = {1.0, -2.0};
  BOOST_TEST(!first_outside(floats{1.5F, -2.5F}, exact, tolerance));
  BOOST_TEST(first_outside(floats{1.0F, -2.6F}, exact, tolerance).value() == 1U);
  BOOST_TEST(first_outside(floats{not_a_number, -2.0F}, exact, tolerance).value() == 0U);
  BOOST_TEST(first_outside(floats{1.0F, -infinity}, exact, tolerance).value() == 1U);
  BOOST_TEST(first_outside(floats{1.0F}, exact, tolerance).value() == 1U);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(vector_instruction_sets)

BOOST_AUTO_TEST_CASE(rms_norm_has_the_same_bits_everywhere) {
  check_same_everywhere([](const vector_kernels& k, const floats& x, const floats& weight) {
    floats out(x.size());
    k.rms_norm(x.data(), 0, weight.data(), 1e-5F, out.data(), 0, 1, x.size());
    return out;
  });
}

BOOST_AUTO_TEST_CASE(add_has_the_same_bits_everywhere) {
  check_same_everywhere([](const vector_kernels& k, const floats& x, floats inout) {
    k.add(x.data(), inout.data(), x.size());
    return inout;
  });
}

BOOST_AUTO_TEST_CASE(exponentials_have_the_same_bits_everywhere) {
  check_same_everywhere([](const vector_kernels& k, floats x, const floats& factor) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= 10.0F * factor[i];
    k.exponentials(x.data(), x.data(), x.size());
    return x;
  });
}

BOOST_AUTO_TEST_CASE(gates_have_the_same_bits_everywhere) {
  check_same_everywhere([](const vector_kernels& k, const floats& gate, const floats& up) {
    floats out(2 * gate.size());
    k.squared_relu_gate(gate.data(), up.data(), out.data(), gate.size());
    k.silu_gate(gate.data(), up.data(), out.data() + gate.size(), gate.size());
    return out;
  });
}

BOOST_AUTO_TEST_CASE(rope_has_the_same_bits_everywhere) {
  for (const rope_kind kind : {rope_kind::neox, rope_kind::interleaved})
    check_same_everywhere([kind](const vector_kernels& k, const floats& a, const floats& b) {
      // Two heads of 2 n floats.
      floats x = a;
      for (int i = 0; i < 3; ++i) x.insert(x.end(), b.begin(), b.end());
      k.rope(x.data(), 2, 2 * a.size(), a.data(), b.data(), kind);
      return x;
    });
}

BOOST_AUTO_TEST_CASE(softmax_has_the_same_bits_everywhere) {
  check_same_everywhere([](const vector_kernels& k, floats x, const floats&) {
    for (float& v : x)
      if (std::isnan(v) || v == infinity) v = -infinity;
    k.softmax(x.data(), x.size(), 0.7F);
    return x;
  });
}

BOOST_AUTO_TEST_CASE(softmax_of_nan_is_nan_everywhere) {
  check_same_everywhere([](const vector_kernels& k, floats x, const floats&) {
    k.softmax(x.data(), x.size(), 1.3F);
    return x;
  });
}

BOOST_AUTO_TEST_CASE(argmax_is_the_same_everywhere) {
  check_same_everywhere([](const vector_kernels& k, floats x, const floats& b) {
    floats indices = {static_cast<float>(k.argmax(x.data(), x.size()))};
    for (float& v : x)
      if (std::isnan(v)) v = b[0];
    indices.push_back(static_cast<float>(k.argmax(x.data(), x.size())));
    return indices;
  });
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(vector_operators)

namespace {
const vector_kernels& scalar() {
  return vector_kernels_for(instruction_set::scalar);
}
}  // namespace

BOOST_AUTO_TEST_CASE(rms_norm_matches_double_precision) {
  for (const std::size_t n : {1U, 15U, 100U, 2560U, 3200U, 6912U, 8640U, 23040U}) {
    const floats x = random_floats(n, 1);
    const floats weight = random_floats(n, 2);
    floats out(n);
    scalar().rms_norm(x.data(), 0, weight.data(), 1e-5F, out.data(), 0, 1, n);
    double sum = 0;
    for (const float v : x) sum += static_cast<double>(v) * v;
    const double inverse = 1 / std::sqrt(sum / static_cast<double>(n) + static_cast<double>(1e-5F));
    std::vector<double> exact(n);
    for (std::size_t i = 0; i < n; ++i) exact[i] = static_cast<double>(x[i]) * inverse * weight[i];
    // A chain of n/16 fused steps and 4 of the tree errs by that many roundings of the (positive) sum, halved
    // by the root; mean, eps, root, reciprocal and two products add six.
    const double relative = ((static_cast<double>(n) / 16 + 1 + 4 + 2) / 2 + 4) * u * 1.01;
    const auto where =
        first_outside(out, exact, [&](std::size_t i) { return relative * std::fabs(exact[i]); });
    BOOST_TEST(!where, "n " << n << " at " << where.value_or(0));
  }
}

BOOST_AUTO_TEST_CASE(rms_norm_may_work_in_place) {
  const floats x = random_floats(77, 3);
  const floats weight = random_floats(77, 4);
  floats apart(77);
  floats in_place = x;
  scalar().rms_norm(x.data(), 0, weight.data(), 1e-5F, apart.data(), 0, 1, x.size());
  scalar().rms_norm(in_place.data(), 0, weight.data(), 1e-5F, in_place.data(), 0, 1, x.size());
  BOOST_TEST(!first_unequal(apart, in_place));
}

BOOST_AUTO_TEST_CASE(rms_norm_of_several_rows_is_that_of_each) {
  constexpr std::size_t n = 77;
  constexpr std::size_t x_stride = 80;
  constexpr std::size_t out_stride = 96;
  const floats weight = random_floats(n, 4);
  for (const instruction_set isa : bitnet::kernels::test::tested_instruction_sets())
    for (const std::size_t rows : {1U, 3U, 4U, 5U, 11U}) {
      const vector_kernels& k = vector_kernels_for(isa);
      const floats x = random_floats(rows * x_stride, 5);
      floats expected(rows * out_stride, 42.0F);
      floats out = expected;
      for (std::size_t r = 0; r < rows; ++r)
        k.rms_norm(&x[r * x_stride], 0, weight.data(), 1e-5F, &expected[r * out_stride], 0, 1, n);
      k.rms_norm(x.data(), x_stride, weight.data(), 1e-5F, out.data(), out_stride, rows, n);
      BOOST_TEST(!first_unequal(expected, out));
    }
}

BOOST_AUTO_TEST_CASE(exponential_is_within_one_ulp) {
  // All exponents, a stride of representations coprime to everything below.
  floats x;
  for (std::uint32_t bits = 0; bits < 0x7F800000U; bits += 2999)
    for (const std::uint32_t sign : {0U, 0x80000000U}) {
      float v = 0;
      const std::uint32_t signed_bits = bits | sign;
      std::memcpy(&v, &signed_bits, sizeof(v));
      if (std::fabs(v) < 105.0F) x.push_back(v);
    }
  for (float v = -105.0F; v < 90.0F; v += 0.0007F) x.push_back(v);
  floats out(x.size());
  scalar().exponentials(x.data(), out.data(), x.size());
  long double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = std::exp(static_cast<long double>(x[i]));
    if (exact < static_cast<long double>(std::numeric_limits<float>::min())) {
      if (!same_float(out[i], 0.0F)) BOOST_FAIL("exp(" << x[i] << ") = " << out[i]);
    } else if (exact > static_cast<long double>(std::numeric_limits<float>::max())) {
      if (out[i] != infinity) BOOST_FAIL("exp(" << x[i] << ") = " << out[i]);
    } else {
      worst = std::max(worst, ulp_error(out[i], exact));
    }
  }
  BOOST_TEST_MESSAGE("largest error of exp: " << static_cast<double>(worst) << " ulp");
  BOOST_TEST(worst <= 1.0L);
}

BOOST_AUTO_TEST_CASE(exponential_knows_the_special_values) {
  const floats x = {0.0F, -0.0F, -infinity, infinity, not_a_number, -3e38F, 3e38F, 0x1p-149F};
  const floats expected = {1.0F, 1.0F, 0.0F, infinity, not_a_number, 0.0F, infinity, 1.0F};
  floats out(x.size());
  scalar().exponentials(x.data(), out.data(), x.size());
  const auto where = first_unequal(out, expected);
  BOOST_TEST(!where, "exp(" << x[where.value_or(0)] << ") = " << out[where.value_or(0)]);
}

BOOST_AUTO_TEST_CASE(squared_relu_gate_matches_its_definition) {
  const floats gate = {-1.0F, 0.0F, 1.5F, -infinity, not_a_number, 3.0F};
  const floats up = {2.0F, 2.0F, -2.0F, 1.0F, 1.0F, not_a_number};
  const floats expected = {0.0F, 0.0F, -4.5F, 0.0F, not_a_number, not_a_number};
  floats out(gate.size());
  scalar().squared_relu_gate(gate.data(), up.data(), out.data(), gate.size());
  BOOST_TEST(!first_unequal(out, expected));
}

BOOST_AUTO_TEST_CASE(silu_gate_matches_double_precision) {
  const std::size_t n = 8640;
  const floats gate = random_floats(n, 5, -30.0F, 30.0F);
  const floats up = random_floats(n, 6);
  floats out(n);
  scalar().silu_gate(gate.data(), up.data(), out.data(), n);
  std::vector<double> exact(n);
  for (std::size_t i = 0; i < n; ++i)
    exact[i] = static_cast<double>(gate[i]) / (1 + std::exp(-static_cast<double>(gate[i]))) * up[i];
  // exp to an ulp (2 u), then sum, quotient and product.
  BOOST_TEST(!first_outside(out, exact, [&](std::size_t i) { return 5.1 * u * std::fabs(exact[i]); }));
}

BOOST_AUTO_TEST_CASE(silu_gate_closes_far_below_zero) {
  const floats gate = {-200.0F, -std::numeric_limits<float>::max()};
  const floats up = {3.0F, 1.0F};
  floats out(2);
  scalar().silu_gate(gate.data(), up.data(), out.data(), 2);
  BOOST_TEST(out[0] == 0.0F);
  BOOST_TEST(out[1] == 0.0F);
}

BOOST_AUTO_TEST_CASE(rope_matches_double_precision) {
  for (const rope_kind kind : {rope_kind::neox, rope_kind::interleaved})
    for (const std::size_t head_dim : {2U, 64U, 96U, 100U, 128U, 256U}) {
      const std::size_t half = head_dim / 2;
      const std::size_t heads = 3;
      const floats x = random_floats(heads * head_dim, 8);
      floats cos(half);
      floats sin(half);
      for (std::size_t i = 0; i < half; ++i) {
        const double angle =
            1234 * std::pow(5e5, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
        cos[i] = static_cast<float>(std::cos(angle));
        sin[i] = static_cast<float>(std::sin(angle));
      }
      floats out = x;
      scalar().rope(out.data(), heads, head_dim, cos.data(), sin.data(), kind);
      std::vector<double> exact(x.size());
      std::vector<double> tolerance(x.size());
      for (std::size_t h = 0; h < heads; ++h)
        for (std::size_t i = 0; i < half; ++i) {
          const std::size_t first = h * head_dim + (kind == rope_kind::neox ? i : 2 * i);
          const std::size_t second = first + (kind == rope_kind::neox ? half : 1);
          const double a = x[first];
          const double b = x[second];
          exact[first] = a * cos[i] - b * sin[i];
          exact[second] = a * sin[i] + b * cos[i];
          // One product rounded, one fused sum.
          tolerance[first] = tolerance[second] =
              2.01 * u * (std::fabs(a) + std::fabs(b)) * std::max(std::fabs(cos[i]), std::fabs(sin[i]));
        }
      const auto where = first_outside(out, exact, [&](std::size_t i) { return tolerance[i]; });
      BOOST_TEST(!where, "head_dim " << head_dim << " at " << where.value_or(0));
    }
}

BOOST_AUTO_TEST_CASE(softmax_matches_double_precision) {
  for (const std::size_t n : {1U, 17U, 1000U, 128256U})
    for (const float temperature : {0.1F, 1.0F, 2.0F}) {
      floats x = random_floats(n, 9, -10.0F, 10.0F);
      std::vector<double> exact(n);
      const double greatest = *std::max_element(x.begin(), x.end());
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i) sum += exact[i] = std::exp((x[i] - greatest) / temperature);
      for (double& e : exact) e /= sum;
      scalar().softmax(x.data(), n, temperature);
      // The exponent t <= 0 carries the errors of a difference and a quotient, |t| 2 u, which exp makes
      // relative, and adds 2 u itself; the sum has a chain of n/16 and 4 roundings; then the quotient.
      // Results below the smallest normal float flush.
      const double chain = static_cast<double>(n) / 16 + 1 + 4;
      const double span = 20 / static_cast<double>(temperature);
      const double relative = (2 * span + 2 + chain + 2 * span + 2 + 1) * u * 1.01;
      const auto where =
          first_outside(x, exact, [&](std::size_t i) { return relative * exact[i] + 0x1p-126; });
      BOOST_TEST(!where, "n " << n << " at " << where.value_or(0));
    }
}

BOOST_AUTO_TEST_CASE(softmax_gives_nothing_to_minus_infinity) {
  floats x = {-infinity, 1.0F, -infinity, 1.0F};
  scalar().softmax(x.data(), x.size(), 1.0F);
  BOOST_TEST(!first_unequal(x, floats{0.0F, 0.5F, 0.0F, 0.5F}));
}

BOOST_AUTO_TEST_CASE(argmax_takes_the_first_of_equals) {
  for (const std::size_t n : {1U, 16U, 40U, 333U})
    for (std::size_t first = 0; first < n; first += 3)
      for (std::size_t second = first; second < n; second += 5) {
        floats x(n, -2.0F);
        x[first] = x[second] = -1.0F;
        BOOST_REQUIRE_EQUAL(scalar().argmax(x.data(), n), first);
      }
}

BOOST_AUTO_TEST_CASE(argmax_reports_nan_wherever_it_is) {
  for (std::size_t at = 0; at < 50; ++at) {
    floats x = random_floats(50, 11);
    x[at] = not_a_number;
    BOOST_REQUIRE_EQUAL(scalar().argmax(x.data(), x.size()), x.size());
  }
  BOOST_TEST(scalar().argmax(nullptr, 0) == 0U);
}

BOOST_AUTO_TEST_CASE(argmax_handles_infinities) {
  const floats all_closed(20, -infinity);
  BOOST_TEST(scalar().argmax(all_closed.data(), all_closed.size()) == 0U);
  floats x(20, 1.0F);
  x[18] = infinity;
  BOOST_TEST(scalar().argmax(x.data(), x.size()) == 18U);
}

BOOST_AUTO_TEST_SUITE_END()
