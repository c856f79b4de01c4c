#include "kernels/bfloat16.hpp"
#include "kernels/flush_subnormals.hpp"
#include "kernels/half.hpp"
#include "kernels/reduction.hpp"
#include "kernels/vector.hpp"
#include "tests/support/float_compare.hpp"
#include "tests/unit/kernels/tested_instruction_sets.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace bitnet::kernels;
using namespace bitnet::kernels::test;
using bitnet::test::first_outside;
using bitnet::test::first_unequal;
using bitnet::test::same_float;

namespace {

using floats = std::vector<float>;

struct shape {
  std::size_t heads;
  std::size_t kv_heads;
  std::size_t head_dim;
};

/// Of the models that people run, and some that are awkward: odd groups, tails, the largest head.
constexpr shape shapes[] = {{20, 5, 128}, {16, 16, 64}, {32, 32, 100}, {32, 8, 128}, {8, 4, 256},
                            {12, 4, 256}, {3, 3, 96},   {7, 1, 64},    {13, 1, 34},  {1, 1, 2}};

/// One sequence: queries, keys and values of `tokens` positions and its KV blocks, filled with NaN beforehand
/// so that any use of a slot that was not stored shows.
struct sequence {
  shape s;
  std::size_t tokens;
  floats q, k, v;
  std::vector<std::vector<std::byte>> blocks;

  sequence(shape dimensions, std::size_t token_count, std::uint32_t seed, float spread = 1.0F)
      : s(dimensions), tokens(token_count) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> distribution(0.0F, spread);
    const auto fill = [&](floats& x, std::size_t n) {
      x.resize(n);
      for (float& value : x) value = distribution(generator);
    };
    fill(q, tokens * s.heads * s.head_dim);
    fill(k, tokens * s.kv_heads * s.head_dim);
    fill(v, tokens * s.kv_heads * s.head_dim);
    for (std::size_t b = 0; b * kv_block_tokens < tokens; ++b)
      blocks.emplace_back(kv_block_bytes(s.kv_heads, s.head_dim), std::byte{0xFF});
  }

  void store(const vector_kernels& kernels, std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t)
      kernels.store_kv(blocks[t / kv_block_tokens].data(), t % kv_block_tokens,
                       &k[t * s.kv_heads * s.head_dim], &v[t * s.kv_heads * s.head_dim], s.kv_heads,
                       s.head_dim);
  }

  /// Attention of the queries [first, last) into rows [first, last) of `out`.
  void attend(const vector_kernels& kernels, std::size_t first, std::size_t last, floats& out,
              std::size_t first_kv_head, std::size_t last_kv_head) const {
    std::vector<const std::byte*> pointers;
    for (const auto& block : blocks) pointers.push_back(block.data());
    const std::size_t stride = s.heads * s.head_dim;
    kernels.attention({.q = &q[first * stride],
                       .q_stride = stride,
                       .out = &out[first * stride],
                       .out_stride = stride,
                       .kv_blocks = pointers.data(),
                       .query_count = last - first,
                       .position = first,
                       .heads = s.heads,
                       .kv_heads = s.kv_heads,
                       .head_dim = s.head_dim,
                       .scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim))},
                      first_kv_head, last_kv_head);
  }

  /// All positions in one call.
  floats attend_at_once(const vector_kernels& kernels) {
    floats out(q.size(), std::numeric_limits<float>::quiet_NaN());
    store(kernels, 0, tokens);
    attend(kernels, 0, tokens, out, 0, s.kv_heads);
    return out;
  }
};

float rounded(float x) {
  return float_from_bfloat16(bfloat16_from_float(x));
}

/// Attention of one query head at one position by its definition, with the bound on the error of the kernels.
/// Queries, keys and values are rounded as the kernels round them.
struct exact_head {
  std::vector<double> value;
  std::vector<double> tolerance;

  exact_head(const sequence& seq, std::size_t position, std::size_t head) {
    const auto [heads, kv_heads, dim] = seq.s;
    const std::size_t kv_head = head / (heads / kv_heads);
    const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
    const double u = 0x1p-24;
    const double brain_u = 0x1p-9;
    std::vector<double> score(position + 1);
    double score_error = 0;
    for (std::size_t t = 0; t <= position; ++t) {
      double magnitude = 0;
      for (std::size_t i = 0; i < dim; ++i) {
        const double product =
            static_cast<double>(rounded(seq.q[(position * heads + head) * dim + i] * scale)) *
            rounded(seq.k[(t * kv_heads + kv_head) * dim + i]);
        score[t] += product;
        magnitude += std::fabs(product);
      }
      // Chains of at most 16 fused steps, and their sums.
      score_error = std::max(score_error, (16 + static_cast<double>(dim) / 16 + 1) * u * magnitude);
    }
    const double greatest = *std::max_element(score.begin(), score.end());
    const double least = *std::min_element(score.begin(), score.end());
    double sum = 0;
    for (double& w : score) sum += w = std::exp(w - greatest);
    // A weight is e to a score minus a running maximum (rounded once), corrected by a factor a block. All
    // those roundings are of differences that span at most greatest - least. Then it is rounded to bfloat16.
    const double blocks = static_cast<double>(position / kv_block_tokens + 1);
    const double weight_error = 2 * score_error + (blocks + 1) * ((greatest - least) + 4) * u + brain_u;
    // Numerator: at most 16 fused steps, sums and a factor a block. Denominator: 4 + 4 + 1 roundings a block.
    const double relative = 2 * weight_error + (20 + 10 * blocks + 1) * u;
    value.resize(dim);
    tolerance.resize(dim);
    for (std::size_t i = 0; i < dim; ++i) {
      double magnitude = 0;
      for (std::size_t t = 0; t <= position; ++t) {
        const double term = score[t] / sum * rounded(seq.v[(t * kv_heads + kv_head) * dim + i]);
        value[i] += term;
        magnitude += std::fabs(term);
      }
      tolerance[i] = 1.01 * relative * magnitude + 1e-37;
    }
  }
};

/// One step of a dot product as kernels/attention.hpp documents it: chains over the even and the odd places.
template <class X, class Y>
float step_sum(std::size_t places, X x, Y y) {
  float even = 0;
  float odd = 0;
  for (std::size_t p = 0; p < places; p += 2) {
    even = std::fma(x(p), y(p), even);
    if (p + 1 < places) odd = std::fma(x(p + 1), y(p + 1), odd);
  }
  return even + odd;
}

/// The documented arithmetic, step by step, for one query head at one position. exp is the kernels' own.
[[gnu::noinline]] floats documented_arithmetic(const sequence& seq, std::size_t position, std::size_t head) {
  const auto [heads, kv_heads, dim] = seq.s;
  const std::size_t kv_head = head / (heads / kv_heads);
  const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
  const auto& scalar = vector_kernels_for(instruction_set::scalar);
  const auto exponential = [&](float x) {
    float e = 0;
    scalar.exponentials(&x, &e, 1);
    return e;
  };
  const float* const q = &seq.q[(position * heads + head) * dim];
  float maximum = -std::numeric_limits<float>::infinity();
  float sum = 0;
  floats out(dim, 0.0F);
  for (std::size_t start = 0; start <= position; start += kv_block_tokens) {
    const std::size_t seen = std::min(position + 1 - start, kv_block_tokens);
    floats weight(seen, 0.0F);
    for (std::size_t t = 0; t < seen; ++t) {
      const float* const k = &seq.k[((start + t) * kv_heads + kv_head) * dim];
      for (std::size_t i = 0; i < dim; i += 32)
        weight[t] += step_sum(
            std::min<std::size_t>(32, dim - i), [&](std::size_t p) { return rounded(q[i + p] * scale); },
            [&](std::size_t p) { return rounded(k[i + p]); });
    }
    const float before = maximum;
    maximum = std::max(maximum, *std::max_element(weight.begin(), weight.end()));
    float lane[reduction_lanes] = {};
    for (std::size_t t = 0; t < seen; ++t) {
      weight[t] = rounded(exponential(weight[t] - maximum));
      lane[t % reduction_lanes] += weight[t];
    }
    const float factor = exponential(before - maximum);
    sum = std::fma(sum, factor, reduce_lanes(lane));
    for (std::size_t i = 0; i < dim; ++i) {
      float block = 0;
      for (std::size_t first = 0; first < seen; first += 32)
        block += step_sum(
            std::min<std::size_t>(32, seen - first), [&](std::size_t p) { return weight[first + p]; },
            [&](std::size_t p) {
              return rounded(seq.v[((start + first + p) * kv_heads + kv_head) * dim + i]);
            });
      out[i] = std::fma(out[i], factor, block);
    }
  }
  for (float& x : out) x = x * (1.0F / sum) + 0.0F;
  return out;
}

void check_against_definition(const sequence& seq, const floats& out, std::size_t position) {
  for (std::size_t head = 0; head < seq.s.heads; ++head) {
    const exact_head exact(seq, position, head);
    const float* row = &out[(position * seq.s.heads + head) * seq.s.head_dim];
    const auto where =
        first_outside({row, seq.s.head_dim}, exact.value, [&](std::size_t i) { return exact.tolerance[i]; });
    if (where)  // Boost evaluates the operands of a message also where the check holds
      BOOST_FAIL("head_dim " << seq.s.head_dim << " position " << position << " head " << head << " at "
                             << *where << ": " << row[*where] << " instead of " << exact.value[*where]
                             << " +- " << exact.tolerance[*where]);
  }
}

const vector_kernels& best() {
  return vector_kernels_for(fastest_tested_instruction_set());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(sixteen_bit_floats)

BOOST_AUTO_TEST_CASE(halves_round_to_nearest_even) {
  BOOST_TEST(half_from_float(1.0F) == 0x3C00);
  BOOST_TEST(half_from_float(-2.0F) == 0xC000);
  BOOST_TEST(half_from_float(1.0F + 0x1p-11F) == 0x3C00);
  BOOST_TEST(half_from_float(1.0F + 0x3p-11F) == 0x3C02);
  BOOST_TEST(half_from_float(65504.0F) == 0x7BFF);
  BOOST_TEST(half_from_float(65519.996F) == 0x7BFF);
  BOOST_TEST(half_from_float(65520.0F) == 0x7C00);
  BOOST_TEST(half_from_float(0x1p-24F) == 0x0001);
  BOOST_TEST(half_from_float(0x1p-25F) == 0x0000);
  BOOST_TEST(half_from_float(0x1.000002p-25F) == 0x0001);
  BOOST_TEST(half_from_float(-0.0F) == 0x8000);
}

BOOST_AUTO_TEST_CASE(every_half_survives_a_round_trip) {
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const auto half = static_cast<std::uint16_t>(h);
    const bool nan = (h & 0x7C00U) == 0x7C00U && (h & 0x3FFU) != 0;
    const auto quieted = static_cast<std::uint16_t>(nan ? h | 0x200U : h);
    BOOST_REQUIRE_EQUAL(half_from_float(float_from_half(half)), quieted);
  }
}

BOOST_AUTO_TEST_CASE(brain_floats_round_to_nearest_even) {
  BOOST_TEST(bfloat16_from_float(1.0F) == 0x3F80);
  BOOST_TEST(bfloat16_from_float(-2.0F) == 0xC000);
  BOOST_TEST(bfloat16_from_float(1.0F + 0x1p-8F) == 0x3F80);
  BOOST_TEST(bfloat16_from_float(1.0F + 0x3p-8F) == 0x3F82);
  BOOST_TEST(bfloat16_from_float(1.0F + 0x1.02p-8F) == 0x3F81);
  BOOST_TEST(bfloat16_from_float(std::numeric_limits<float>::max()) == 0x7F80);
  BOOST_TEST(bfloat16_from_float(0x1p-133F) == 0x0001);
  BOOST_TEST(bfloat16_from_float(-0.0F) == 0x8000);
  BOOST_TEST(std::isnan(float_from_bfloat16(bfloat16_from_float(std::numeric_limits<float>::quiet_NaN()))));
}

BOOST_AUTO_TEST_CASE(stored_brain_floats_are_the_same_everywhere) {
  // All exponents and rounding cases, through store_kv: head_dim floats are keys and values of one slot.
  constexpr std::size_t head_dim = 256;
  constexpr std::size_t slot = 37;
  floats x(head_dim);
  for (const instruction_set isa : tested_instruction_sets()) {
    int wrong = 0;
    for (std::uint32_t step = 0; step < (1U << 16); step += 4) {
      for (std::size_t i = 0; i < head_dim; ++i) {
        const std::uint32_t bits = step * 0x10001U * 3U + static_cast<std::uint32_t>(i) * 0x00F0F1F1U;
        std::memcpy(&x[i], &bits, sizeof(bits));
      }
      std::vector<std::byte> block(kv_block_bytes(1, head_dim));
      vector_kernels_for(isa).store_kv(block.data(), slot, x.data(), x.data(), 1, head_dim);
      const auto number = [&](std::size_t at) {
        std::uint16_t n = 0;
        std::memcpy(&n, &block[2 * at], sizeof(n));
        return n;
      };
      for (std::size_t i = 0; i < head_dim; ++i) {
        const std::uint16_t expected = bfloat16_from_float(x[i]);
        const std::size_t key = slot / 16 * 16 * head_dim + i / 2 * 32 + slot % 16 * 2 + i % 2;
        const std::size_t value = head_dim * kv_block_tokens + slot / 32 * 32 * head_dim + i / 16 * 16 * 32 +
                                  slot % 32 / 2 * 32 + i % 16 * 2 + slot % 2;
        if (number(key) != expected || number(value) != expected) ++wrong;
      }
    }
    BOOST_TEST(wrong == 0, to_string(isa) << " stores " << wrong << " floats otherwise than software");
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(attention_reference)

BOOST_AUTO_TEST_CASE(attention_matches_its_definition_for_every_shape) {
  for (const shape s : shapes) {
    sequence seq(s, 131, 1);
    const floats out = seq.attend_at_once(best());
    for (const std::size_t position : {0U, 1U, 5U, 62U, 63U, 64U, 65U, 127U, 128U, 130U})
      check_against_definition(seq, out, position);
  }
}

BOOST_AUTO_TEST_CASE(attention_has_the_bits_of_the_documented_arithmetic) {
  for (const instruction_set isa : tested_instruction_sets())
    // Products of the last are subnormal, and count as zero.
    for (const float spread : {1.0F, 4.0F, 1e-19F})
      for (const shape s : {shape{8, 2, 128}, shape{3, 3, 34}, shape{4, 1, 96}}) {
        sequence seq(s, 131, 10, spread);
        const floats out = seq.attend_at_once(vector_kernels_for(isa));
        for (const std::size_t position : {0U, 1U, 31U, 32U, 63U, 64U, 96U, 129U, 130U})
          for (std::size_t head = 0; head < s.heads; ++head) {
            const flush_subnormals scope;
            const floats expected = documented_arithmetic(seq, position, head);
            const float* const row = &out[(position * s.heads + head) * s.head_dim];
            const auto where = first_unequal(expected, {row, row + s.head_dim});
            BOOST_REQUIRE_MESSAGE(!where, to_string(isa) << " spread " << spread << " position " << position
                                                         << " head " << head << " differs at " << *where);
          }
      }
}

BOOST_AUTO_TEST_CASE(attention_matches_its_definition_with_peaked_scores) {
  sequence seq({4, 2, 64}, 200, 2, 4.0F);
  const floats out = seq.attend_at_once(best());
  for (std::size_t position = 0; position < seq.tokens; position += 7)
    check_against_definition(seq, out, position);
}

BOOST_AUTO_TEST_CASE(attention_matches_its_definition_at_long_context) {
  sequence seq({4, 1, 128}, 4500, 3);
  floats out(seq.q.size());
  seq.store(best(), 0, seq.tokens);
  for (const std::size_t position : {4095U, 4096U, 4499U}) {
    seq.attend(best(), position, position + 1, out, 0, 1);
    check_against_definition(seq, out, position);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(attention_determinism)

BOOST_AUTO_TEST_CASE(attention_has_the_same_bits_everywhere) {
  for (const shape s : shapes) {
    const sequence seq(s, 100, 4, 2.0F);
    const floats expected = sequence(seq).attend_at_once(vector_kernels_for(instruction_set::scalar));
    for (const instruction_set isa : accelerated_instruction_sets()) {
      const floats actual = sequence(seq).attend_at_once(vector_kernels_for(isa));
      const auto where = first_unequal(expected, actual);
      BOOST_TEST(!where, to_string(isa)
                             << " differs at " << where.value_or(0) << ", head_dim " << s.head_dim);
    }
  }
}

BOOST_AUTO_TEST_CASE(attention_does_not_depend_on_chunks) {
  for (const instruction_set isa : tested_instruction_sets()) {
    const vector_kernels& kernels = vector_kernels_for(isa);
    for (const shape s : shapes) {
      // The reference takes a microsecond where the others take nanoseconds.
      const bool slow = isa == instruction_set::scalar;
      if (slow && s.heads * s.head_dim > 500) continue;
      sequence at_once(s, 150, 5);
      const floats expected = at_once.attend_at_once(kernels);
      for (const std::size_t chunk : {1U, 2U, 3U, 7U, 50U, 64U}) {
        // Stored as it goes: later slots still hold NaN.
        sequence seq(s, 150, 5);
        floats actual(expected.size());
        for (std::size_t t = 0; t < seq.tokens; t += chunk) {
          const std::size_t end = std::min(t + chunk, seq.tokens);
          seq.store(kernels, t, end);
          seq.attend(kernels, t, end, actual, 0, s.kv_heads);
        }
        const auto where = first_unequal(expected, actual);
        BOOST_REQUIRE_MESSAGE(!where, to_string(isa) << " chunk " << chunk << " differs at " << *where
                                                     << ", head_dim " << s.head_dim);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(attention_does_not_depend_on_the_split_of_heads) {
  for (const shape s : {shapes[0], shapes[1], shapes[4]}) {
    sequence seq(s, 90, 6);
    const floats expected = seq.attend_at_once(best());
    floats actual(expected.size());
    for (std::size_t h = s.kv_heads; h-- > 0;) seq.attend(best(), 0, seq.tokens, actual, h, h + 1);
    BOOST_TEST(!first_unequal(expected, actual));
  }
}

BOOST_AUTO_TEST_CASE(attention_ignores_what_later_tokens_hold) {
  // Keys and values of later tokens, in the same block and the same tile of queries, must not reach earlier
  // ones, however large: they weigh nothing there.
  for (const instruction_set isa : tested_instruction_sets()) {
    const vector_kernels& kernels = vector_kernels_for(isa);
    sequence clean({4, 2, 64}, 80, 7);
    sequence large = clean;
    constexpr std::size_t last_clean = 70;
    const std::size_t row = 2 * 64;
    std::fill(large.k.begin() + (last_clean + 1) * row, large.k.end(), 1e30F);
    std::fill(large.v.begin() + (last_clean + 1) * row, large.v.end(), -3e38F);
    floats expected = clean.attend_at_once(kernels);
    floats actual = large.attend_at_once(kernels);
    BOOST_TEST(first_unequal(expected, actual).has_value());  // the later ones do change
    expected.resize((last_clean + 1) * 4 * 64);
    actual.resize(expected.size());
    BOOST_TEST(!first_unequal(expected, actual));
  }
}

BOOST_AUTO_TEST_CASE(attention_writes_nothing_but_its_rows) {
  for (const instruction_set isa : tested_instruction_sets()) {
    const shape s{6, 3, 34};
    sequence seq(s, 70, 8);
    seq.store(vector_kernels_for(isa), 0, seq.tokens);
    floats out(seq.q.size(), 42.0F);
    seq.attend(vector_kernels_for(isa), 65, 67, out, 1, 2);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t token = i / (s.heads * s.head_dim);
      const std::size_t head = i / s.head_dim % s.heads;
      const bool computed = token >= 65 && token < 67 && head / 2 == 1;
      BOOST_REQUIRE_EQUAL(same_float(out[i], 42.0F), !computed);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_nan_in_the_query_shows_in_its_head_alone) {
  sequence seq({2, 1, 64}, 66, 9);
  seq.q[(65 * 2 + 1) * 64 + 3] = std::numeric_limits<float>::quiet_NaN();
  const floats out = seq.attend_at_once(best());
  const std::size_t poisoned = (65 * 2 + 1) * 64;
  BOOST_TEST(std::none_of(out.begin(), out.begin() + poisoned, [](float x) { return std::isnan(x); }));
  BOOST_TEST(std::all_of(out.begin() + poisoned, out.end(), [](float x) { return std::isnan(x); }));
}

BOOST_AUTO_TEST_SUITE_END()
