#include "tests/unit/kernels/matmul_checks.hpp"

#include "kernels/half.hpp"
#include "tests/support/same_bits.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace bitnet::test {

namespace {

using kernels::head_matrix;
using kernels::quantized_activations;
using kernels::ternary_matrix;
using kernels::work_range;

constexpr float sentinel = -12345.678F;

/// A matrix of outputs between sentinels: a row has slack behind it, the first element is 4 bytes past any
/// vector's alignment.
class guarded_output {
 public:
  guarded_output(std::size_t tokens, std::size_t rows)
      : tokens_(tokens), rows_(rows), stride_(rows + 5), values_(1 + tokens * stride_, sentinel) {}

  float* data() { return values_.data() + 1; }
  std::size_t stride() const { return stride_; }

  /// expected[m * rows + r]
  void check(std::span<const float> expected, const std::string& what) const {
    std::vector<float> wanted(values_.size(), sentinel);
    for (std::size_t m = 0; m < tokens_; ++m)
      std::copy_n(expected.data() + m * rows_, rows_, wanted.data() + 1 + m * stride_);
    const auto at = first_difference(values_, wanted);
    if (!at) return;
    BOOST_ERROR(what << ": token " << (*at - 1) / stride_ << " row " << (*at - 1) % stride_ << " is "
                     << values_[*at] << ", expected " << wanted[*at]);
  }

 private:
  std::size_t tokens_;
  std::size_t rows_;
  std::size_t stride_;
  std::vector<float> values_;
};

/// Calls `multiply` on all blocks at once, on each alone, and on ranges of growing length.
void check_splits(std::size_t blocks, const matmul_shape& shape, std::span<const float> expected,
                  const std::string& what,
                  const std::function<void(float* y, std::size_t y_stride, work_range)>& multiply) {
  guarded_output whole(shape.tokens, shape.rows);
  multiply(whole.data(), whole.stride(), {0, blocks});
  whole.check(expected, what + ", one range");

  guarded_output single(shape.tokens, shape.rows);
  for (std::size_t b = blocks; b > 0; --b) multiply(single.data(), single.stride(), {b - 1, b});
  single.check(expected, what + ", one block a range");

  guarded_output growing(shape.tokens, shape.rows);
  std::size_t length = 1;
  for (std::size_t b = 0; b < blocks; b += length++)
    multiply(growing.data(), growing.stride(), {b, std::min(b + length + 1, blocks)});
  growing.check(expected, what + ", overlapping ranges");

  guarded_output none(shape.tokens, shape.rows);
  multiply(none.data(), none.stride(), {blocks, blocks});
  none.check(std::vector<float>(shape.tokens * shape.rows, sentinel), what + ", empty range");
}

void fill(quantized_activations& x, const matmul_shape& shape, activations kind,
          kernels::activation_layout layout) {
  std::mt19937_64 random(shape.tokens);
  x.resize(shape.tokens, shape.cols, layout);
  for (std::size_t m = 0; m < shape.tokens; ++m) {
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < x.padded_cols(); ++k) {
      const auto number = static_cast<std::int8_t>(random() % 256);
      auto& q = x.at(m, k);
      q = 0;
      if (k >= shape.cols) continue;
      switch (kind) {
        case activations::random:
          q = number;
          break;
        case activations::lowest:
          q = -128;
          break;
        case activations::highest:
          q = 127;
          break;
        case activations::zero:
          break;
      }
      sum += q;
    }
    x.row_sum()[m] = sum;
    x.row_scale()[m] = 0.01F + static_cast<float>(random() % 1000) * 1e-4F;
  }
}

std::vector<float> random_floats(std::size_t n, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0F, 1.0F);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

head_matrix pack_head(std::span<const float> values, const matmul_shape& shape, head_matrix::format f) {
  head_matrix head(shape.rows, shape.cols, f);
  for (std::size_t b = 0; b < head.block_count(); ++b)
    head.pack_block(b, values.data() + b * head_matrix::block_rows() * shape.cols);
  return head;
}

}  // namespace

std::string to_string(const matmul_shape& shape) {
  return std::to_string(shape.rows) + "x" + std::to_string(shape.cols) + " by " +
         std::to_string(shape.tokens) + " tokens";
}

std::vector<std::int8_t> random_ternary(std::size_t rows, std::size_t cols, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::int8_t> weights(rows * cols);
  for (std::int8_t& w : weights) w = static_cast<std::int8_t>(static_cast<int>(random() % 3) - 1);
  return weights;
}

ternary_matrix pack_ternary(std::span<const std::int8_t> weights, std::size_t rows, std::size_t cols,
                            float scale) {
  ternary_matrix w(rows, cols, scale);
  for (std::size_t b = 0; b < w.block_count(); ++b)
    w.pack_block(b, weights.data() + b * ternary_matrix::block_rows * cols);
  return w;
}

namespace {

/// A product with ternary weights and what it should give.
struct ternary_case {
  std::vector<std::int8_t> weights;
  ternary_matrix w;
  quantized_activations x;
  std::vector<float> expected;
};

void make(ternary_case& c, const matmul_shape& shape, activations kind, kernels::activation_layout layout) {
  c.weights = random_ternary(shape.rows, shape.cols, shape.rows * 1000 + shape.cols);
  // With extreme activations, rows of all +1 and all -1 reach the largest sums there are.
  if (kind != activations::random)
    for (std::size_t r = 0; r < shape.rows; ++r)
      if (r % 3 != 2)
        std::fill_n(c.weights.begin() + static_cast<std::ptrdiff_t>(r * shape.cols), shape.cols,
                    static_cast<std::int8_t>(r % 3 == 0 ? 1 : -1));
  c.w = pack_ternary(c.weights, shape.rows, shape.cols, 0.37F);
  fill(c.x, shape, kind, layout);
  c.expected.resize(shape.tokens * shape.rows);
  for (std::size_t m = 0; m < shape.tokens; ++m) {
    for (std::size_t r = 0; r < shape.rows; ++r) {
      std::int32_t dot = 0;
      for (std::size_t k = 0; k < shape.cols; ++k) dot += c.weights[r * shape.cols + k] * c.x.at(m, k);
      c.expected[m * shape.rows + r] = static_cast<float>(dot) * (c.x.row_scale()[m] * 0.37F);
    }
  }
}

}  // namespace

void check_ternary_matmul(const kernels::matmul_kernels& table, const matmul_shape& shape, activations kind) {
  ternary_case c;
  make(c, shape, kind, table.layout(shape.tokens));
  check_splits(c.w.block_count(), shape, c.expected, "ternary " + to_string(shape),
               [&](float* y, std::size_t y_stride, work_range blocks) {
                 table.ternary_matmul(c.w, c.x, y, y_stride, blocks);
               });
}

void check_fused_matmul(const kernels::matmul_kernels& table, const matmul_shape& shape) {
  if (!table.fuses(shape.tokens)) return;
  ternary_case gate;
  make(gate, shape, activations::random, table.layout(shape.tokens));
  ternary_case up;
  make(up, shape, activations::random, table.layout(shape.tokens));
  // Other weights than the gate's, for the same activations.
  up.weights = random_ternary(shape.rows, shape.cols, 77);
  up.w = pack_ternary(up.weights, shape.rows, shape.cols, 0.53F);
  guarded_output products(shape.tokens, shape.rows);
  table.ternary_matmul(up.w, up.x, products.data(), products.stride(), {0, up.w.block_count()});
  const std::size_t blocks = gate.w.block_count();
  std::vector<float> gated(gate.expected.size());
  for (std::size_t m = 0; m < shape.tokens; ++m)
    for (std::size_t r = 0; r < shape.rows; ++r) {
      const float positive = std::max(gate.expected[m * shape.rows + r], 0.0F);
      gated[m * shape.rows + r] = positive * positive * products.data()[m * products.stride() + r];
    }
  check_splits(blocks, shape, gated, "gated " + to_string(shape),
               [&](float* y, std::size_t y_stride, work_range range) {
                 table.gated_matmul(gate.w, up.w, gate.x, y, y_stride, range);
               });

  // Twice added to the sentinels between which it lies.
  std::vector<float> added(gate.expected.size());
  for (std::size_t i = 0; i < added.size(); ++i) added[i] = sentinel + gate.expected[i] + gate.expected[i];
  guarded_output sums(shape.tokens, shape.rows);
  table.add_ternary_matmul(gate.w, gate.x, sums.data(), sums.stride(), {0, blocks});
  for (std::size_t b = 0; b < blocks; ++b)
    table.add_ternary_matmul(gate.w, gate.x, sums.data(), sums.stride(), {b, b + 1});
  sums.check(added, "added " + to_string(shape));
}

void check_base3_matmul(kernels::base3_matmul multiply, const matmul_shape& shape, activations kind) {
  ternary_case c;
  make(c, shape, kind, kernels::activation_layout::rows);
  kernels::weight_arena arena(kernels::base3_matrix::packed_bytes(shape.rows, shape.cols));
  kernels::base3_matrix w(c.w, arena);
  for (std::size_t b = 0; b < w.block_count(); ++b) w.pack_block(b, c.w);
  check_splits(
      w.block_count(), shape, c.expected, "base 3 " + to_string(shape),
      [&](float* y, std::size_t y_stride, work_range blocks) { multiply(w, c.x, y, y_stride, blocks); });
}

void check_head_int8(const kernels::matmul_kernels& table, const matmul_shape& shape, activations kind) {
  std::vector<float> values = random_floats(shape.rows * shape.cols, shape.rows * 1000 + shape.cols);
  if (kind != activations::random)
    for (std::size_t i = 0; i < values.size(); ++i)
      if (i / shape.cols % 3 != 2) values[i] = i / shape.cols % 3 == 0 ? 2.0F : -2.0F;
  const head_matrix w = pack_head(values, shape, head_matrix::format::int8);
  quantized_activations x;
  fill(x, shape, kind, table.layout(shape.tokens));
  std::vector<float> expected(shape.tokens * shape.rows);
  for (std::size_t r = 0; r < shape.rows; ++r) {
    const float* const row = values.data() + r * shape.cols;
    float absmax = 0.0F;
    for (std::size_t k = 0; k < shape.cols; ++k) absmax = std::max(absmax, std::fabs(row[k]));
    const float scale = absmax / 127.0F;
    for (std::size_t m = 0; m < shape.tokens; ++m) {
      std::int32_t dot = 0;
      for (std::size_t k = 0; k < shape.cols; ++k)
        dot += static_cast<int>(std::nearbyint(row[k] / scale)) * x.at(m, k);
      expected[m * shape.rows + r] = static_cast<float>(dot) * (x.row_scale()[m] * scale);
    }
  }
  check_splits(
      w.block_count(), shape, expected, "int8 head " + to_string(shape),
      [&](float* y, std::size_t y_stride, work_range blocks) { table.head_int8(w, x, y, y_stride, blocks); });
}

void check_head_f16(const kernels::matmul_kernels& table, const matmul_shape& shape) {
  const std::vector<float> values = random_floats(shape.rows * shape.cols, shape.rows * 1000 + shape.cols);
  const head_matrix w = pack_head(values, shape, head_matrix::format::f16);
  const std::size_t x_stride = shape.cols + 3;
  const std::vector<float> x = random_floats(shape.tokens * x_stride, shape.tokens);
  std::vector<float> expected(shape.tokens * shape.rows);
  for (std::size_t r = 0; r < shape.rows; ++r) {
    for (std::size_t m = 0; m < shape.tokens; ++m) {
      float lane[16] = {};
      for (std::size_t k = 0; k < shape.cols; ++k) {
        const float weight = kernels::float_from_half(kernels::half_from_float(values[r * shape.cols + k]));
        lane[k % 16] = std::fma(weight, x[m * x_stride + k], lane[k % 16]);
      }
      for (std::size_t width = 8; width > 0; width /= 2)
        for (std::size_t i = 0; i < width; ++i) lane[i] += lane[i + width];
      expected[m * shape.rows + r] = lane[0];
    }
  }
  check_splits(w.block_count(), shape, expected, "f16 head " + to_string(shape),
               [&](float* y, std::size_t y_stride, work_range blocks) {
                 table.head_f16(w, x.data(), x_stride, shape.tokens, y, y_stride, blocks);
               });
}

head_matrix pack_int8_head(std::span<const float> values, std::size_t rows, std::size_t cols) {
  return pack_head(values, {rows, cols, 1}, head_matrix::format::int8);
}

kernels::head_screen make_screen(const head_matrix& head) {
  kernels::head_screen screen(head);
  std::vector<kernels::head_screen::column_sums> sums(head.cols());
  for (std::size_t b = 0; b < head.block_count(); ++b) kernels::head_screen::add_block(head, b, sums);
  screen.fold(sums);
  for (std::size_t b = 0; b < screen.block_count(); ++b) screen.pack_block(b, head);
  return screen;
}

void check_screen_scores(const kernels::head_screen_kernels& table, const matmul_shape& shape,
                         activations kind, kernels::activation_layout layout) {
  auto values = random_floats(shape.rows * shape.cols, shape.rows * 1000 + shape.cols);
  // Rows far outside have the codes 15 and 0 everywhere: the largest sums there are.
  if (kind != activations::random)
    for (std::size_t i = 0; i < values.size(); ++i)
      if (i / shape.cols % 16 < 2) values[i] = i / shape.cols % 16 == 0 ? 50.0F : -50.0F;
  const auto screen = make_screen(pack_int8_head(values, shape.rows, shape.cols));
  quantized_activations x;
  fill(x, shape, kind, layout);
  std::vector<std::int32_t> expected(shape.tokens * shape.rows);
  for (std::size_t r = 0; r < shape.rows; ++r)
    for (std::size_t m = 0; m < shape.tokens; ++m)
      for (std::size_t k = 0; k < shape.cols; ++k)
        expected[m * shape.rows + r] +=
            (screen.block(r / 32)[k / 4 * 64 + r % 16 * 4 + k % 4] >> (r % 32 / 16 * 4) & 15) * x.at(m, k);
  constexpr std::int32_t untouched = -1234567890;
  const std::size_t stride = shape.rows + 5;
  for (const std::size_t length : {std::size_t{1}, std::size_t{3}, screen.block_count()}) {
    const std::size_t blocks = screen.block_count();
    std::vector<std::int32_t> scores(1 + shape.tokens * stride, untouched);
    std::vector<std::int32_t> wanted = scores;
    std::vector<std::int32_t> maxima(shape.tokens * (blocks + 1), untouched);
    std::vector<std::int32_t> wanted_maxima = maxima;
    for (std::size_t m = 0; m < shape.tokens; ++m) {
      const std::span row(expected.data() + m * shape.rows, shape.rows);
      std::ranges::copy(row, wanted.data() + 1 + m * stride);
      for (std::size_t b = 0; b < blocks; ++b)
        wanted_maxima[m * (blocks + 1) + b] =
            std::ranges::max(row.subspan(b * 32, std::min<std::size_t>(32, shape.rows - b * 32)));
    }
    for (std::size_t b = 0; b < blocks; b += length)
      table.scores(screen, x, {scores.data() + 1, stride, maxima.data(), blocks + 1},
                   {b, std::min(b + length, blocks)});
    BOOST_TEST((scores == wanted),
               "scores of " << to_string(shape) << ", " << length << " blocks at a time, differ");
    BOOST_TEST((maxima == wanted_maxima),
               "maxima of " << to_string(shape) << ", " << length << " blocks at a time, differ");
  }
}

void check_rescoring(const kernels::head_screen_kernels& table, const matmul_shape& shape,
                     kernels::activation_layout layout) {
  const auto head =
      pack_int8_head(random_floats(shape.rows * shape.cols, shape.rows), shape.rows, shape.cols);
  quantized_activations x;
  quantized_activations in_rows;
  fill(x, shape, activations::random, layout);
  fill(in_rows, shape, activations::random, kernels::activation_layout::rows);
  std::vector<float> expected(shape.tokens * shape.rows);
  const auto screen = make_screen(head);
  const auto& reference = kernels::matmul_kernels_for(kernels::instruction_set::scalar);
  reference.head_int8(head, in_rows, expected.data(), shape.rows, {0, head.block_count()});
  std::mt19937 random(1);
  for (const unsigned one_in : {1U, 2U, 20U}) {
    std::vector<std::uint32_t> rows;
    for (std::uint32_t r = 0; r < shape.rows; ++r)
      if (random() % one_in == 0) rows.push_back(r);
    for (std::size_t m = 0; m < shape.tokens; ++m) {
      std::vector<float> logits(rows.size() + 2, sentinel);
      table.rescore(screen, head.row_scales(), x, m, rows.data(), rows.size(), logits.data() + 1);
      std::vector<float> wanted(rows.size() + 2, sentinel);
      for (std::size_t i = 0; i < rows.size(); ++i) wanted[1 + i] = expected[m * shape.rows + rows[i]];
      const auto at = first_difference(logits, wanted);
      BOOST_TEST(!at, to_string(shape) << ": token " << m << ", one row in " << one_in << " differs");
    }
  }
}

void check_quantize_row(const kernels::matmul_kernels& table, std::size_t tokens, std::size_t cols) {
  using limits = std::numeric_limits<float>;
  std::mt19937_64 random(cols);
  const std::function<float(std::size_t)> distributions[] = {
      [&](std::size_t) { return std::normal_distribution<float>(0.0F, 3.0F)(random); },
      [&](std::size_t) { return 0.0F; },
      [&](std::size_t k) { return k % 2 == 0 ? 1e-7F : -3e-6F; },  // below the floor of absmax
      [&](std::size_t) { return limits::denorm_min(); },
      // Multiples of a half: every other one is a tie.
      [&](std::size_t k) {
        return k == 0 ? 127.0F : static_cast<float>(static_cast<int>(k % 509) - 254) * 0.5F;
      },
      [&](std::size_t k) { return k % 3 == 0 ? limits::max() : limits::lowest(); },
      [&](std::size_t k) { return k + 1 == cols ? limits::quiet_NaN() : 1.0F; },
      [&](std::size_t k) { return k == 0 ? -limits::quiet_NaN() : 1.0F; },
      [&](std::size_t k) { return k == cols / 2 ? limits::infinity() : -1.0F; },
      [&](std::size_t k) { return k == cols / 3 ? -limits::infinity() : 1.0F; },
  };
  // Three rows, or as many as this table wants in tiles: the last but one has neighbours in its tile.
  const std::size_t rows = std::max<std::size_t>(tokens, 3);
  const std::size_t row = rows - 2;
  quantized_activations out;
  out.resize(rows, cols, table.layout(rows));
  std::size_t number = 0;
  for (const auto& value : distributions) {
    std::vector<float> x(cols + 1);  // one float past alignment
    for (std::size_t k = 0; k < cols; ++k) x[k + 1] = value(k);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t k = 0; k < out.padded_cols(); ++k) out.at(r, k) = 77;
    table.quantize_row(x.data() + 1, out, row);

    float absmax = 0.0F;
    bool finite = true;
    for (std::size_t k = 0; k < cols; ++k) {
      finite = finite && std::isfinite(x[k + 1]);
      absmax = std::max(absmax, std::fabs(x[k + 1]));
    }
    const float range = std::max(absmax, 1e-5F);
    const float scale = 127.0F / range;
    std::int32_t sum = 0;
    std::vector<std::int8_t> expected(out.padded_cols(), 0);
    for (std::size_t k = 0; finite && k < cols; ++k) {
      const float q = std::clamp(std::nearbyint(x[k + 1] * scale), -128.0F, 127.0F);
      expected[k] = static_cast<std::int8_t>(q);
      sum += static_cast<std::int32_t>(q);
    }
    const float wanted_scale = finite ? range / 127.0F : limits::quiet_NaN();
    BOOST_TEST_CONTEXT("distribution " << number << ", " << cols << " columns") {
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t k = 0; k < out.padded_cols(); ++k)
          if (out.at(r, k) != (r == row ? expected[k] : 77)) BOOST_ERROR("row " << r << " column " << k);
      BOOST_TEST(out.row_sum()[row] == sum);
      BOOST_TEST(!first_difference({&wanted_scale, 1}, {out.row_scale() + row, 1}));
    }
    ++number;
  }
}

std::vector<matmul_shape> odd_shapes() {
  std::vector<matmul_shape> shapes;
  for (std::size_t rows = 1; rows <= 70; ++rows) shapes.push_back({rows, 1 + rows * 37 % 701, 1 + rows % 3});
  for (std::size_t tokens = 1; tokens <= 70; ++tokens)
    shapes.push_back({1 + tokens * 29 % 67, 1 + tokens * 53 % 331, tokens});
  // Whole blocks, several blocks, more than one panel of columns.
  for (const std::size_t tokens : {1, 2, 3, 4, 5, 8, 16, 17, 33, 49})
    for (const std::size_t cols : {64, 256, 257, 640, 1088})
      shapes.push_back({160 + tokens % 2, cols, tokens});
  shapes.push_back({96, 320, 130});
  shapes.push_back({40, 192, 517});
  return shapes;
}

}  // namespace bitnet::test
