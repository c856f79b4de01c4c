// The device's operators against the CPU's, bit for bit: on an emulated device in every build, on a real one
// where there is one.

#include "kernels/cuda/operators.hpp"

#include "kernels/cuda/canary.hpp"
#include "kernels/cuda/packing.hpp"
#include "kernels/half.hpp"
#include "kernels/matmul.hpp"
#include "tests/unit/kernels/cuda/device_array.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>

namespace {

using namespace bitnet;
using namespace bitnet::kernels::cuda;
using tests::device_array;
using tests::needs_device;

const kernels::matmul_kernels& cpu_matmul = kernels::matmul_kernels_for(kernels::instruction_set::scalar);
const kernels::vector_kernels& cpu = kernels::vector_kernels_for(kernels::instruction_set::scalar);

std::vector<float> random_floats(std::size_t n, std::uint32_t seed, float spread = 3.0F) {
  std::mt19937 random(seed);
  std::vector<float> values(n);
  for (auto& v : values) v = spread * (static_cast<float>(random() >> 8U) * 0x1p-23F - 1.0F);
  return values;
}

template <class T>
void check_same(const std::vector<T>& device, const std::vector<T>& expected, const std::string& what) {
  const auto at = tests::first_difference(device, expected);
  BOOST_TEST((at == expected.size() && device.size() == expected.size()),
             what << " differ at " << at << ": " << (at < device.size() ? +device[at] : 0) << " instead of "
                  << (at < expected.size() ? +expected[at] : 0));
}

/// int8 rows on the device, from what the CPU quantised.
struct device_activations {
  explicit device_activations(const kernels::quantized_activations& x)
      : stride(round_up(x.cols(), col_padding)),
        values(bytes_of(x, stride)),
        scales(std::vector<float>(x.row_scale(), x.row_scale() + x.rows())),
        sums(std::vector<std::int32_t>(x.row_sum(), x.row_sum() + x.rows())) {}
  activation_view view() const {
    return {.values = values.get(), .scales = scales.get(), .sums = sums.get(), .stride = stride};
  }
  static std::vector<std::int8_t> bytes_of(const kernels::quantized_activations& x, std::size_t stride) {
    std::vector<std::int8_t> bytes(x.rows() * stride);
    for (std::size_t r = 0; r < x.rows(); ++r) std::copy_n(x.row(r), x.cols(), bytes.begin() + r * stride);
    return bytes;
  }

  std::size_t stride;
  device_array<std::int8_t> values;
  device_array<float> scales;
  device_array<std::int32_t> sums;
};

struct device_matrix {
  explicit device_matrix(const packed_matrix& m)
      : tiles(m.tiles),
        scales(m.row_scales),
        rows(m.rows),
        padded_rows(m.padded_rows),
        padded_cols(m.padded_cols) {}
  weight_view view() const {
    return {.tiles = tiles.get(),
            .row_scales = scales.get(),
            .rows = rows,
            .padded_rows = padded_rows,
            .padded_cols = padded_cols};
  }

  device_array<std::uint8_t> tiles;
  device_array<float> scales;
  std::size_t rows, padded_rows, padded_cols;
};

void quantise(kernels::quantized_activations& x, std::size_t tokens, std::size_t cols, std::uint32_t seed) {
  x.resize(tokens, cols);
  const auto values = random_floats(tokens * cols, seed);
  for (std::size_t t = 0; t < tokens; ++t) cpu_matmul.quantize_row(values.data() + t * cols, x, t);
}

kernels::ternary_matrix random_ternary(std::size_t rows, std::size_t cols, std::uint32_t seed) {
  std::mt19937 random(seed);
  kernels::ternary_matrix w(rows, cols, 0.37F);
  std::vector<std::int8_t> trits(kernels::ternary_matrix::block_rows * cols);
  for (std::size_t block = 0; block < w.block_count(); ++block) {
    for (auto& trit : trits) trit = static_cast<std::int8_t>(static_cast<int>(random() % 3) - 1);
    w.pack_block(block, trits.data());
  }
  return w;
}

void check_ternary(std::size_t rows, std::size_t cols, std::size_t tokens, product_output output) {
  const auto w = random_ternary(rows, cols, 5);
  kernels::quantized_activations x;
  quantise(x, tokens, cols, 6);
  const std::size_t y_stride = rows + 3;
  std::vector<float> products(tokens * y_stride);
  cpu_matmul.ternary_matmul(w, x, products.data(), y_stride, {0, w.block_count()});
  // Results are added to what was there, or replace it; what is not a result stays.
  const auto before = random_floats(tokens * y_stride, 7);
  auto expected = before;
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t r = 0; r < rows; ++r) {
      auto& y = expected[t * y_stride + r];
      y = output == product_output::add ? y + products[t * y_stride + r] : products[t * y_stride + r];
    }
  const kernels::ternary_matrix* parts[] = {&w};
  const device_matrix on_device(pack_ternary(parts));
  const device_activations activations(x);
  const device_array<float> y(before);
  multiply(on_device.view(), weight_format::ternary, activations.view(), tokens, y.get(), y_stride, output,
           tests::test_stream().handle());
  check_same(
      y.read(), expected,
      "products " + std::to_string(rows) + "x" + std::to_string(cols) + " of " + std::to_string(tokens));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cuda_operators)

BOOST_AUTO_TEST_CASE(ternary_products_have_the_bits_of_the_reference, *needs_device()) {
  for (const std::size_t tokens : {1, 2, 8, 9, 16, 17, 33, 64})
    check_ternary(40, 300, tokens, product_output::store);
  check_ternary(1, 5, 1, product_output::store);
  check_ternary(9, 2100, 1, product_output::add);
  check_ternary(17, 1100, 3, product_output::add);
}

BOOST_AUTO_TEST_CASE(many_tokens_are_tiled_without_a_seam, *needs_device()) {
  check_ternary(40, 300, 65, product_output::store);
  check_ternary(130, 800, 129, product_output::add);
}

BOOST_AUTO_TEST_CASE(the_int8_head_has_the_bits_of_the_reference, *needs_device()) {
  constexpr std::size_t rows = 45;
  constexpr std::size_t cols = 330;
  kernels::head_matrix head(rows, cols, kernels::head_matrix::format::int8);
  const auto weights = random_floats(64 * cols, 8, 0.1F);
  for (std::size_t block = 0; block < 2; ++block) head.pack_block(block, weights.data() + block * 32 * cols);
  const device_matrix on_device(pack_head(head));
  for (const std::size_t tokens : {1, 5, 13, 40, 64, 70}) {
    kernels::quantized_activations x;
    quantise(x, tokens, cols, 9);
    std::vector<float> expected(tokens * rows);
    cpu_matmul.head_int8(head, x, expected.data(), rows, {0, head.block_count()});
    const device_activations activations(x);
    const device_array<float> y(expected.size());
    multiply(on_device.view(), weight_format::int8, activations.view(), tokens, y.get(), rows,
             product_output::store, tests::test_stream().handle());
    check_same(y.read(), expected, "logits of " + std::to_string(tokens));
  }
}

BOOST_AUTO_TEST_CASE(the_f16_head_has_the_bits_of_the_reference, *needs_device()) {
  constexpr std::size_t rows = 45;
  constexpr std::size_t cols = 330;
  constexpr std::size_t tokens = 3;
  kernels::head_matrix head(rows, cols, kernels::head_matrix::format::f16);
  const auto weights = random_floats(64 * cols, 8, 0.1F);
  for (std::size_t block = 0; block < 2; ++block) head.pack_block(block, weights.data() + block * 32 * cols);
  std::vector<std::uint16_t> compact;
  for (std::size_t r = 0; r < rows; ++r)
    compact.insert(compact.end(), head.f16_row(r), head.f16_row(r) + cols);
  const auto x = random_floats(tokens * cols, 10);
  std::vector<float> expected(tokens * rows);
  cpu_matmul.head_f16(head, x.data(), cols, tokens, expected.data(), rows, {0, head.block_count()});
  const device_array<std::uint16_t> w(compact);
  const device_array<float> values(x);
  const device_array<float> y(expected.size());
  multiply_f16(w.get(), rows, cols, values.get(), cols, tokens, y.get(), rows, tests::test_stream().handle());
  check_same(y.read(), expected, "logits");
}

namespace {

/// One norm of three rows on both, the input prepared by the CPU's operators.
void check_norm(norm_input input, bool weighted, std::size_t cols, float spread) {
  constexpr std::size_t rows = 3;
  const bool gated = input != norm_input::plain;
  const std::size_t stride = gated ? 2 * cols : cols;
  const auto x = random_floats(rows * stride, 11, spread);
  const auto weight = random_floats(cols, 12, 1.0F);
  kernels::quantized_activations expected;
  expected.resize(rows, cols);
  std::vector<float> normed(rows * cols);
  for (std::size_t r = 0; r < rows; ++r) {
    auto* const out = normed.data() + r * cols;
    const auto* const in = x.data() + r * stride;
    if (input == norm_input::squared_relu_gate)
      cpu.squared_relu_gate(in, in + cols, out, cols);
    else if (input == norm_input::silu_gate)
      cpu.silu_gate(in, in + cols, out, cols);
    else
      std::copy_n(in, cols, out);
    if (weighted) cpu.rms_norm(out, 0, weight.data(), 1e-5F, out, 0, 1, cols);
    cpu_matmul.quantize_row(out, expected, r);
  }
  const std::size_t padded = round_up(cols, col_padding);
  const device_array<float> values(x);
  const device_array<float> weights(weight);
  const device_array<std::int8_t> q(std::vector<std::int8_t>(rows * padded, 77));
  const device_array<float> scales(rows);
  const device_array<std::int32_t> sums(rows);
  const device_array<float> floats(rows * cols);
  const device_array<std::int32_t> failed(rows);
  kernels::cuda::normalise(
      {.x = values.get(),
       .x_stride = stride,
       .input = input,
       .weight = weighted ? weights.get() : nullptr,
       .epsilon = 1e-5F,
       .cols = cols,
       .out = {.values = q.get(), .scales = scales.get(), .sums = sums.get(), .stride = padded},
       .normed = floats.get(),
       .failed = failed.get()},
      rows, tests::test_stream().handle());
  check_same(floats.read(), normed, "normed values");
  check_same(q.read(), device_activations::bytes_of(expected, padded), "quantised values");
  check_same(scales.read(), std::vector<float>(expected.row_scale(), expected.row_scale() + rows), "scales");
  check_same(sums.read(), std::vector<std::int32_t>(expected.row_sum(), expected.row_sum() + rows), "sums");
  check_same(failed.read(), std::vector<std::int32_t>(rows, 0), "failures");
}

}  // namespace

BOOST_AUTO_TEST_CASE(norms_and_quantisation_have_the_bits_of_the_reference, *needs_device()) {
  for (const std::size_t cols : {5, 256, 300, 2560}) check_norm(norm_input::plain, true, cols, 3.0F);
  check_norm(norm_input::plain, false, 300, 3.0F);
  check_norm(norm_input::plain, true, 300, 1e-8F);
  check_norm(norm_input::squared_relu_gate, true, 4500, 3.0F);  // more than one segment of shared memory
  check_norm(norm_input::squared_relu_gate, false, 90, 3.0F);
  check_norm(norm_input::silu_gate, true, 333, 30.0F);
}

BOOST_AUTO_TEST_CASE(a_row_that_is_not_finite_fails_alone, *needs_device()) {
  constexpr std::size_t cols = 40;
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (const float value : bad) {
    auto x = random_floats(3 * cols, 13);
    x[cols + 17] = value;
    const device_array<float> values(x);
    const device_array<std::int32_t> chosen(std::vector<std::int32_t>{2, 1});
    const device_array<std::int8_t> q(2 * col_padding);
    const device_array<float> scales(2);
    const device_array<std::int32_t> sums(2);
    const device_array<std::int32_t> failed(3);
    kernels::cuda::normalise(
        {.x = values.get(),
         .x_stride = cols,
         .rows = chosen.get(),
         .cols = cols,
         .out = {.values = q.get(), .scales = scales.get(), .sums = sums.get(), .stride = col_padding},
         .failed = failed.get()},
        2, tests::test_stream().handle());
    BOOST_TEST((failed.read() == std::vector<std::int32_t>{0, 1, 0}));
    BOOST_TEST(std::isfinite(scales.read()[0]));
    BOOST_TEST(std::isnan(scales.read()[1]));
    const auto quantised = q.read();
    BOOST_TEST(std::all_of(quantised.begin() + col_padding, quantised.end(), [](auto v) { return v == 0; }));
    BOOST_TEST(sums.read()[1] == 0);
  }
}

BOOST_AUTO_TEST_CASE(embeddings_are_copied_or_widened, *needs_device()) {
  constexpr std::size_t cols = 300;
  const auto table = random_floats(4 * cols, 14);
  std::vector<std::uint16_t> halves(table.size());
  std::transform(table.begin(), table.end(), halves.begin(),
                 [](float v) { return kernels::half_from_float(v); });
  const device_array<float> floats(table);
  const device_array<std::uint16_t> narrow(halves);
  const device_array<std::int32_t> tokens(std::vector<std::int32_t>{3, 0});
  const device_array<float> out(2 * cols);
  for (const bool f16 : {false, true}) {
    kernels::cuda::embed(f16 ? static_cast<const void*>(narrow.get()) : floats.get(), f16, cols, tokens.get(),
                         2, out.get(), tests::test_stream().handle());
    std::vector<float> expected;
    for (const std::size_t token : {3, 0})
      for (std::size_t i = 0; i < cols; ++i) {
        const auto at = token * cols + i;
        expected.push_back(f16 ? kernels::float_from_half(halves[at]) : table[at]);
      }
    check_same(out.read(), expected, "embeddings");
  }
}

namespace {

struct attention_shape {
  std::size_t heads, kv_heads, head_dim, position, queries;
  kernels::rope_kind kind;
  tile_size size;
};

/// Stores `position + queries` positions and attends for the last `queries` of them, on both.
void check_attention(const attention_shape& s) {
  const std::size_t length = s.position + s.queries;
  const std::size_t q_length = s.heads * s.head_dim;
  const std::size_t kv_length = s.kv_heads * s.head_dim;
  const std::size_t stride = q_length + 2 * kv_length;
  const std::size_t blocks = (length + 63) / 64;
  constexpr std::size_t layers = 2;
  constexpr std::size_t layer = 1;
  const auto rows = random_floats(length * stride, 20);
  const auto cos = random_floats(length * s.head_dim / 2, 21, 1.0F);
  const auto sin = random_floats(length * s.head_dim / 2, 22, 1.0F);
  const std::size_t layer_bytes = kernels::kv_block_bytes(s.kv_heads, s.head_dim);

  // The CPU, its blocks in another order than the sequence's.
  std::vector<std::byte> cache(blocks * layers * layer_bytes);
  std::vector<std::int32_t> table(blocks);
  std::vector<const std::byte*> block_list(blocks);
  for (std::size_t b = 0; b < blocks; ++b) {
    table[b] = static_cast<std::int32_t>(blocks - 1 - b);
    block_list[b] = cache.data() + (static_cast<std::size_t>(table[b]) * layers + layer) * layer_bytes;
  }
  auto rotated = rows;
  std::vector<std::int32_t> positions(length);
  for (std::size_t p = 0; p < length; ++p) {
    positions[p] = static_cast<std::int32_t>(p);
    auto* const q = rotated.data() + p * stride;
    const auto* const c = cos.data() + p * s.head_dim / 2;
    const auto* const n = sin.data() + p * s.head_dim / 2;
    cpu.rope(q, s.heads, s.head_dim, c, n, s.kind);
    cpu.rope(q + q_length, s.kv_heads, s.head_dim, c, n, s.kind);
    cpu.store_kv(const_cast<std::byte*>(block_list[p / 64]), p % 64, q + q_length, q + q_length + kv_length,
                 s.kv_heads, s.head_dim);
  }
  std::vector<float> expected(s.queries * q_length);
  const float scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
  cpu.attention({.q = rotated.data() + s.position * stride,
                 .q_stride = stride,
                 .out = expected.data(),
                 .out_stride = q_length,
                 .kv_blocks = block_list.data(),
                 .query_count = s.queries,
                 .position = s.position,
                 .heads = s.heads,
                 .kv_heads = s.kv_heads,
                 .head_dim = s.head_dim,
                 .scale = scale},
                0, s.kv_heads);

  const device_array<float> device_rows(rows);
  const device_array<float> device_cos(cos);
  const device_array<float> device_sin(sin);
  const device_array<std::int32_t> device_positions(positions);
  const device_array<std::int32_t> chunks(length);
  const device_array<std::int32_t> device_table(table);
  const device_array<std::uint16_t> device_cache(cache.size() / 2);
  const qkv_view qkv{device_rows.get(), stride, s.heads, s.kv_heads, s.head_dim};
  const kv_view kv{device_cache.get(), layers, layer_bytes / 2, device_table.get(), blocks};
  auto* const on = tests::test_stream().handle();
  rotate_and_store({.qkv = qkv,
                    .kv = kv,
                    .layer = layer,
                    .kind = s.kind,
                    .cos = device_cos.get(),
                    .sin = device_sin.get(),
                    .positions = device_positions.get(),
                    .chunks = chunks.get()},
                   length, on);
  check_same(device_rows.read(), rotated, "rotated rows");
  std::vector<std::uint16_t> halves(cache.size() / 2);
  std::memcpy(halves.data(), cache.data(), cache.size());
  check_same(device_cache.read(), halves, "keys and values");

  const auto tile_rows = static_cast<std::size_t>(s.size);
  const std::size_t group_rows = s.queries * (s.heads / s.kv_heads);
  std::vector<attention_tile> tiles;
  for (std::size_t h = 0; h < s.kv_heads; ++h)
    for (std::size_t first = 0; first < group_rows; first += tile_rows)
      tiles.push_back({.chunk = 0,
                       .kv_head = static_cast<std::int32_t>(h),
                       .first = static_cast<std::int32_t>(first),
                       .count = static_cast<std::int32_t>(std::min(tile_rows, group_rows - first)),
                       .row = static_cast<std::int32_t>(s.position),
                       .position = static_cast<std::int32_t>(s.position)});
  const device_array<attention_tile> device_tiles(tiles);
  const device_array<float> scores(
      std::vector<float>(tiles.size() * tile_rows * blocks * 64, std::numeric_limits<float>::quiet_NaN()));
  const device_array<float> out(length * q_length);
  attend({.qkv = qkv,
          .kv = kv,
          .layer = layer,
          .scale = scale,
          .tiles = device_tiles.get(),
          .tile_count = tiles.size(),
          .size = s.size,
          .most_blocks = blocks,
          .scores = scores.get(),
          .out = out.get()},
         on);
  auto attended = out.read();
  attended.erase(attended.begin(), attended.begin() + static_cast<std::ptrdiff_t>(s.position * q_length));
  check_same(attended, expected, "attention");
}

}  // namespace

BOOST_AUTO_TEST_CASE(attention_has_the_bits_of_the_reference, *needs_device()) {
  using kernels::rope_kind;
  check_attention({8, 2, 32, 0, 1, rope_kind::neox, tile_size::decode});
  check_attention({8, 2, 32, 63, 1, rope_kind::interleaved, tile_size::decode});
  check_attention({8, 2, 32, 150, 1, rope_kind::neox, tile_size::decode});
  check_attention({6, 1, 20, 70, 1, rope_kind::neox, tile_size::decode});   // group above a tile, odd head
  check_attention({3, 3, 16, 64, 1, rope_kind::neox, tile_size::decode});   // no grouping
  check_attention({4, 1, 256, 66, 1, rope_kind::neox, tile_size::decode});  // the widest head
  check_attention({8, 2, 32, 0, 21, rope_kind::neox, tile_size::prefill});
  check_attention({8, 2, 32, 60, 21, rope_kind::neox, tile_size::prefill});  // the causal edge crosses blocks
  check_attention({6, 2, 100, 100, 40, rope_kind::interleaved, tile_size::prefill});
  check_attention({2, 1, 256, 10, 70, rope_kind::neox, tile_size::prefill});
}

BOOST_AUTO_TEST_CASE(the_canary_is_good_on_a_sound_device, *needs_device()) {
  const auto problem = run_canary(0);
  BOOST_TEST(!problem.has_value(), problem.value_or(""));
}

BOOST_AUTO_TEST_SUITE_END()
