#include "engine/dequantize.hpp"
#include "engine/ternary_decode.hpp"
#include "kernels/half.hpp"
#include "kernels/matrix.hpp"
#include "tests/support/synthetic_model.hpp"
#include "tests/support/tensor_encoders.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>

using namespace bitnet::engine;
using bitnet::tests::encode_ternary;
using bitnet::tests::encode_values;

namespace {

std::vector<std::int8_t> random_weights(std::size_t count, std::uint64_t seed = 3) {
  std::vector<std::int8_t> weights(count);
  bitnet::tests::synthetic_ternary_row(seed, "test", 0, weights);
  return weights;
}

const std::byte* bytes_of(const std::string& text) {
  return reinterpret_cast<const std::byte*>(text.data());
}

std::vector<float> random_values(std::size_t count, float spread) {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<float> through(tensor_type type, const std::vector<float>& values) {
  const std::string stored = encode_values(type, values);
  const tensor_layout layout = layout_of(type);
  BOOST_REQUIRE(stored.size() == values.size() / layout.elements * layout.bytes);
  std::vector<float> out(values.size());
  dequantize(type, bytes_of(stored), values.size(), out.data());
  return out;
}

/// Greatest difference of a decoded value, as a share of the greatest magnitude in its run.
double worst_error(const std::vector<float>& values, const std::vector<float>& decoded, std::size_t run) {
  double worst = 0.0;
  for (std::size_t start = 0; start < values.size(); start += run) {
    double most = 0.0;
    double error = 0.0;
    for (std::size_t i = start; i < start + run; ++i) {
      most = std::max(most, std::fabs(static_cast<double>(values[i])));
      error = std::max(error, std::fabs(static_cast<double>(values[i]) - static_cast<double>(decoded[i])));
    }
    worst = std::max(worst, error / most);
  }
  return worst;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tensor_decoding)

BOOST_AUTO_TEST_CASE(half_precision_agrees_with_the_kernels_for_every_number) {
  for (std::uint32_t half = 0; half < 65536; ++half) {
    const auto stored = static_cast<std::uint16_t>(half);
    std::byte bytes[2];
    std::memcpy(bytes, &stored, 2);
    float value = 0.0F;
    dequantize(tensor_type::f16, bytes, 1, &value);
    const float expected = bitnet::kernels::float_from_half(stored);
    if (std::isnan(expected)) {
      BOOST_TEST_REQUIRE(std::isnan(value));
    } else {
      BOOST_TEST_REQUIRE(std::bit_cast<std::uint32_t>(value) == std::bit_cast<std::uint32_t>(expected));
    }
  }
}

BOOST_AUTO_TEST_CASE(real_types_keep_what_they_can_hold) {
  const std::vector<float> values = random_values(2048, 0.3F);
  BOOST_TEST(through(tensor_type::f32, values) == values);
  BOOST_TEST(worst_error(values, through(tensor_type::f16, values), 32) <= 0x1p-11);
  BOOST_TEST(worst_error(values, through(tensor_type::bf16, values), 32) <= 0x1p-8);
  // Half a step of the group, and what the rounded scale adds.
  BOOST_TEST(worst_error(values, through(tensor_type::q8_0, values), 32) <= 0.5 / 127 * 1.1);
  BOOST_TEST(worst_error(values, through(tensor_type::q6_k, values), 16) <= 0.5 / 31 * 1.3);
  BOOST_TEST(worst_error(values, through(tensor_type::q4_k, values), 32) <= 2.0 * 0.5 / 15 * 1.5);
}

BOOST_AUTO_TEST_CASE(q6_k_places_every_weight) {
  // One weight differs from all others: it must come out in its place, with its scale.
  for (std::size_t i = 0; i < 256; ++i) {
    std::vector<float> values(256, 1.0F);
    values[i] = -1.0F;
    const std::vector<float> decoded = through(tensor_type::q6_k, values);
    for (std::size_t j = 0; j < 256; ++j) BOOST_TEST_REQUIRE((decoded[j] < 0.0F) == (i == j));
  }
}

BOOST_AUTO_TEST_CASE(q4_k_places_every_weight) {
  for (std::size_t i = 0; i < 256; ++i) {
    std::vector<float> values(256, 0.0F);
    for (std::size_t j = 0; j < 256; ++j) values[j] = static_cast<float>(j / 32 + 1);
    values[i] = -3.0F;
    const std::vector<float> decoded = through(tensor_type::q4_k, values);
    for (std::size_t j = 0; j < 256; ++j) BOOST_TEST_REQUIRE(std::fabs(decoded[j] - values[j]) < 0.7F);
  }
}

BOOST_AUTO_TEST_CASE(q6_k_reads_a_block_written_by_hand) {
  std::string block(210, '\0');
  // Weight 165 = half 1, run 1 (k = 1), l = 5: low nibble of byte 64 + 37, upper pair bits 2-3 of byte 32
  // + 5.
  block[64 + 37] = 0x0A;
  block[128 + 37] = static_cast<char>(3U << 2U);
  block[192 + 10] = -2;
  const std::uint16_t half = bitnet::kernels::half_from_float(0.5F);
  std::memcpy(block.data() + 208, &half, 2);
  std::vector<float> decoded(256);
  dequantize(tensor_type::q6_k, bytes_of(block), 256, decoded.data());
  BOOST_TEST(decoded[165] == 0.5F * -2.0F * (0x3A - 32));
  BOOST_TEST(decoded[164] == 0.5F * -2.0F * -32.0F);
  BOOST_TEST(decoded[0] == 0.0F);
}

BOOST_AUTO_TEST_CASE(two_bit_groups_decode_to_what_was_encoded) {
  const auto weights = random_weights(1024);
  const std::string i2_s = encode_ternary(tensor_type::i2_s, weights, 1.0F);
  const std::string tq2_0 = encode_ternary(tensor_type::tq2_0, weights, 0.75F);
  std::vector<std::int8_t> decoded(1024);
  for (std::size_t g = 0; g < 8; ++g)
    BOOST_TEST(
        decode_two_bit_group(two_bit_order::high_first, bytes_of(i2_s) + 32 * g, decoded.data() + 128 * g));
  BOOST_TEST(decoded == weights);
  std::fill(decoded.begin(), decoded.end(), std::int8_t{5});
  for (std::size_t g = 0; g < 4; ++g) {
    const tq_group group = decode_tq2_0_group(bytes_of(tq2_0) + 66 * g, decoded.data() + 256 * g);
    BOOST_TEST(group.scale == 0.75F);
    BOOST_TEST(group.valid);
    BOOST_TEST(!group.zero);
  }
  BOOST_TEST(decoded == weights);
}

BOOST_AUTO_TEST_CASE(base_3_groups_decode_to_what_was_encoded) {
  const auto weights = random_weights(2560);
  const std::string stored = encode_ternary(tensor_type::tq1_0, weights, -0.5F);
  BOOST_TEST(stored.size() == 540U);
  std::vector<std::int8_t> decoded(2560);
  for (std::size_t g = 0; g < 10; ++g) {
    const tq_group group = decode_tq1_0_group(bytes_of(stored) + 54 * g, decoded.data() + 256 * g);
    BOOST_TEST(group.scale == -0.5F);
  }
  BOOST_TEST(decoded == weights);
}

BOOST_AUTO_TEST_CASE(bytes_written_by_hand_decode_as_the_layouts_say) {
  std::vector<std::int8_t> out(256);
  // I2_S: weights 5, 37, 69 and 101 are bits 7-6, 5-4, 3-2, 1-0 of byte 5.
  std::string group(32, static_cast<char>(0x55));
  group[5] = static_cast<char>(0b10'00'01'10);
  BOOST_TEST(decode_two_bit_group(two_bit_order::high_first, bytes_of(group), out.data()));
  BOOST_TEST(out[5] == 1);
  BOOST_TEST(out[37] == -1);
  BOOST_TEST(out[69] == 0);
  BOOST_TEST(out[101] == 1);
  // TQ1_0: byte 3 holds weights 3, 35, 67, 99 and 131; -1 -1 -1 -1 +1 is the number 2.
  std::string base3(54, '\0');
  base3[3] = static_cast<char>((2 * 256 + 242) / 243);
  decode_tq1_0_group(bytes_of(base3), out.data());
  BOOST_TEST(out[99] == -1);
  BOOST_TEST(out[131] == 1);
  BOOST_TEST(out[132] == -1);
}

BOOST_AUTO_TEST_CASE(code_3_is_noticed_in_every_place) {
  std::int8_t out[128];
  for (std::size_t bit = 0; bit < 256; bit += 2) {
    std::string group(32, static_cast<char>(0x55));
    group[bit / 8] |= static_cast<char>(3U << bit % 8);
    BOOST_TEST_REQUIRE(!decode_two_bit_group(two_bit_order::high_first, bytes_of(group), out));
    for (std::size_t row : {0U, 15U, 16U, 31U}) {
      const std::byte* rows[32];
      std::fill(std::begin(rows), std::end(rows), two_bit_zero_group.data());
      rows[row] = bytes_of(group);
      std::uint8_t chunks[1024];
      BOOST_TEST_REQUIRE(!repack_two_bit_groups(two_bit_order::high_first, rows, chunks));
      BOOST_TEST_REQUIRE(!repack_two_bit_groups(two_bit_order::low_first, rows, chunks));
    }
  }
}

BOOST_AUTO_TEST_CASE(repacking_gives_the_bytes_that_packing_gives) {
  constexpr std::size_t cols = 256;
  const auto weights = random_weights(32 * cols);
  bitnet::kernels::ternary_matrix expected(32, cols, 1.0F);
  expected.pack_block(0, weights.data());
  for (const two_bit_order order : {two_bit_order::high_first, two_bit_order::low_first}) {
    const bool i2_s = order == two_bit_order::high_first;
    const std::string stored = encode_ternary(i2_s ? tensor_type::i2_s : tensor_type::tq2_0, weights, 1.0F);
    bitnet::kernels::ternary_matrix repacked(32, cols, 1.0F);
    for (std::size_t group = 0; group < 2; ++group) {
      const std::byte* rows[32];
      for (std::size_t r = 0; r < 32; ++r) rows[r] = bytes_of(stored) + r * (i2_s ? 64 : 66) + group * 32;
      BOOST_TEST(repack_two_bit_groups(order, rows, repacked.block(0) + 1024 * group));
    }
    BOOST_TEST((std::memcmp(repacked.block(0), expected.block(0), expected.bytes().size()) == 0));
  }
}

BOOST_AUTO_TEST_SUITE_END()
