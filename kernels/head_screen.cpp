#include "kernels/head_screen.hpp"

#include "kernels/head_screen_variants.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

namespace bitnet::kernels {

namespace {

constexpr std::size_t chunk_bytes = 64;
constexpr std::size_t chunk_cols = 4;
constexpr std::size_t half_rows = 16;
constexpr std::size_t group_scores = 32;
static_assert(group_scores == head_screen::block_rows);

std::size_t padded(std::size_t cols) noexcept {
  constexpr auto padding = head_matrix::column_padding;
  return (cols + padding - 1) / padding * padding;
}

/// The int8 weights (plus 128) of 16 rows x 4 columns, in the order of the screen's bytes.
const std::uint8_t* int8_chunk(const head_matrix& head, std::size_t block, std::size_t half,
                               std::size_t col) noexcept {
  return head.int8_block(block) + head_matrix::int8_offset_in_block(half * half_rows, col);
}

/// The scales of 16 rows, each for the four columns of a chunk. Rows past the end have the scale 0, and so
/// have those that are not finite: they would spoil the statistics of all others.
void spread_scales(const head_matrix& head, std::size_t block, std::size_t half,
                   float (&out)[chunk_bytes]) noexcept {
  const float* const scales = head.row_scales() + block * head_screen::block_rows + half * half_rows;
  for (std::size_t j = 0; j < chunk_bytes; ++j) {
    const float scale = scales[j / chunk_cols];
    out[j] = std::isfinite(scale) ? scale : 0.0F;
  }
}

/// out[j] = the weights of a chunk.
void unpack(const std::uint8_t* chunk, const float (&scales)[chunk_bytes],
            float (&out)[chunk_bytes]) noexcept {
  for (std::size_t j = 0; j < chunk_bytes; ++j)
    out[j] = static_cast<float>(static_cast<int>(chunk[j]) - head_matrix::int8_weight_offset) * scales[j];
}

/// Better scores have greater keys; of equal scores, smaller ids.
std::uint64_t key_of(std::int32_t score, std::uint32_t id) noexcept {
  const auto rank = static_cast<std::uint32_t>(score) ^ 0x80000000U;
  return std::uint64_t{rank} << 32 | (~id);
}

}  // namespace

head_screen::head_screen(const head_matrix& head)
    : rows_(head.rows()),
      cols_(head.cols()),
      padded_cols_(head.padded_cols()),
      means_(padded_cols_),
      factors_(padded_cols_),
      codes_(block_count() * padded_cols_ * block_rows / 2),
      int8_rows_(rows_ * padded_cols_) {}

std::size_t head_screen::memory_bytes(std::size_t rows, std::size_t cols) noexcept {
  const std::size_t blocks = (rows + block_rows - 1) / block_rows;
  return padded(cols) * (blocks * block_rows / 2 + rows);
}

void head_screen::add_block(const head_matrix& head, std::size_t block,
                            std::span<column_sums> sums) noexcept {
  for (std::size_t half = 0; half < 2; ++half) {
    float scales[chunk_bytes];
    float weights[chunk_bytes];
    spread_scales(head, block, half, scales);
    for (std::size_t col = 0; col < head.cols(); col += chunk_cols) {
      unpack(int8_chunk(head, block, half, col), scales, weights);
      // Four columns side by side: vector code.
      double values[chunk_cols] = {};
      double squares[chunk_cols] = {};
      for (std::size_t r = 0; r < half_rows; ++r) {
        for (std::size_t c = 0; c < chunk_cols; ++c) {
          const double w = static_cast<double>(weights[r * chunk_cols + c]);
          values[c] += w;
          squares[c] += w * w;
        }
      }
      const std::size_t columns = std::min(chunk_cols, head.cols() - col);
      for (std::size_t c = 0; c < columns; ++c) {
        sums[col + c].values += values[c];
        sums[col + c].squares += squares[c];
      }
    }
  }
}

void head_screen::fold(std::span<const column_sums> sums) noexcept {
  const auto n = static_cast<double>(std::max<std::size_t>(rows_, 1));
  for (std::size_t c = 0; c < cols_; ++c) {
    const double mean = sums[c].values / n;
    const double variance = std::max(sums[c].squares / n - mean * mean, 0.0);
    means_[c] = static_cast<float>(mean);
    factors_[c] = static_cast<float>(std::sqrt(variance));
  }
}

void head_screen::pack_block(std::size_t block, const head_matrix& head) noexcept {
  auto* out = reinterpret_cast<std::uint8_t*>(codes_.data()) + block * padded_cols_ * 16;
  constexpr float levels_per_deviation = static_cast<float>(levels) / (2.0F * clip);
  constexpr float middle = static_cast<float>(levels) / 2.0F;
  constexpr float last = static_cast<float>(levels - 1);
  float scales[2][chunk_bytes];
  for (std::size_t half = 0; half < 2; ++half) spread_scales(head, block, half, scales[half]);
  for (std::size_t col = 0; col < padded_cols_; col += chunk_cols, out += chunk_bytes) {
    float mean[chunk_cols];
    float factor[chunk_cols];  // 0 for columns of one value and for the padding: all codes are the same
    for (std::size_t c = 0; c < chunk_cols; ++c) {
      mean[c] = means_[col + c];
      factor[c] = factors_[col + c] > 0.0F ? levels_per_deviation / factors_[col + c] : 0.0F;
      if (!std::isfinite(factor[c])) factor[c] = 0.0F;
    }
    int codes[2][chunk_bytes];
    for (std::size_t half = 0; half < 2; ++half) {
      float weights[chunk_bytes];
      unpack(int8_chunk(head, block, half, col), scales[half], weights);
      for (std::size_t j = 0; j < chunk_bytes; ++j) {
        const float level = (weights[j] - mean[j % chunk_cols]) * factor[j % chunk_cols] + middle;
        const float bounded = level > 0.0F ? (level < last ? level : last) : 0.0F;
        codes[half][j] = static_cast<int>(bounded);  // cuts off, so that a level spans [code, code + 1)
      }
    }
    for (std::size_t j = 0; j < chunk_bytes; ++j)
      out[j] = col < cols_ ? static_cast<std::uint8_t>(codes[0][j] | codes[1][j] << 4) : std::uint8_t{0};
  }
  copy_rows(block, head);
}

void head_screen::copy_rows(std::size_t block, const head_matrix& head) noexcept {
  const std::size_t first = block * block_rows;
  const std::size_t last = std::min(first + block_rows, rows_);
  for (std::size_t r = first; r < last; ++r) {
    auto* const out = reinterpret_cast<std::uint8_t*>(int8_rows_.data()) + r * padded_cols_;
    const std::uint8_t* const from = head.int8_block(block) + head_matrix::int8_offset_in_block(r - first, 0);
    for (std::size_t col = 0; col < padded_cols_; col += chunk_cols)
      std::memcpy(out + col, from + head_matrix::int8_offset_in_block(0, col), chunk_cols);
  }
}

const head_screen_kernels& head_screen_kernels_for(instruction_set isa) noexcept {
  switch (isa) {
#if BITNET_X86_KERNELS
    case instruction_set::avx2:
      return avx2_head_screen_kernels;
    case instruction_set::avx_vnni:
      return avx_vnni_head_screen_kernels;
    case instruction_set::avx512_vnni:
      return avx512_head_screen_kernels;
    case instruction_set::amx_int8:
      return amx_head_screen_kernels;
#else
    case instruction_set::avx2:
    case instruction_set::avx_vnni:
    case instruction_set::avx512_vnni:
    case instruction_set::amx_int8:
#endif
    case instruction_set::scalar:
      break;
  }
  return scalar_head_screen_kernels;
}

void find_block_maxima(const head_screen& w, std::size_t tokens, const screen_scores& out,
                       work_range blocks) noexcept {
  for (std::size_t m = 0; m < tokens; ++m) {
    for (std::size_t b = blocks.first; b < blocks.last; ++b) {
      const std::size_t first = b * group_scores;
      const std::span scores(out.scores + m * out.stride + first, std::min(group_scores, w.rows() - first));
      out.maxima[m * out.maxima_stride + b] = std::ranges::max(scores);
    }
  }
}

candidate_selector::candidate_selector(std::size_t most_scores) {
  order_.reserve((most_scores + group_scores - 1) / group_scores);
  found_.reserve(most_scores);
  ranked_.reserve(most_scores);
}

void candidate_selector::select(std::span<const std::int32_t> scores, std::span<const std::int32_t> maxima,
                                std::span<std::uint32_t> out) noexcept {
  if (out.empty()) return;
  // As many groups as rows are wanted have at least one score each that reaches this, so all rows that are
  // wanted do.
  std::int32_t least = std::numeric_limits<std::int32_t>::min();
  if (out.size() <= maxima.size()) {
    order_.assign(maxima.begin(), maxima.end());
    const auto last = order_.begin() + static_cast<std::ptrdiff_t>(out.size() - 1);
    std::nth_element(order_.begin(), last, order_.end(), std::greater<>());
    least = *last;
  }
  found_.clear();
  for (std::size_t g = 0; g < maxima.size(); ++g) {
    if (maxima[g] < least) continue;
    const std::size_t end = std::min((g + 1) * group_scores, scores.size());
    for (std::size_t i = g * group_scores; i < end; ++i)
      if (scores[i] >= least) found_.push_back(key_of(scores[i], static_cast<std::uint32_t>(i)));
  }
  ranked_.assign(found_.begin(), found_.end());
  const auto last = ranked_.begin() + static_cast<std::ptrdiff_t>(out.size() - 1);
  std::nth_element(ranked_.begin(), last, ranked_.end(), std::greater<>());
  // Keys differ, so exactly as many as wanted reach the last one; they were found in the order of ids.
  std::size_t n = 0;
  for (const std::uint64_t key : found_)
    if (key >= *last) out[n++] = ~static_cast<std::uint32_t>(key);
}

}  // namespace bitnet::kernels
