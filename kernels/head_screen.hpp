#pragma once

#include "kernels/matmul.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bitnet::kernels {

/// A copy of an int8 LM head with four bits a weight, half as much to read, that tells which rows may have
/// the greatest logits. It is folded: from each column its mean is subtracted and the rest divided by the
/// column's deviation; what is left is cut at 2.9 deviations and rounded to 16 levels. Activations must be
/// multiplied by the deviations (`factors`) before they are quantised. What the means contribute is the same
/// for all rows of a product, so the order of the rows is about that of the logits: a heuristic.
///
/// Blocks of 32 rows; in a block, chunks of 64 bytes hold 32 rows x 4 columns, columns in order. Byte j holds
/// the codes (0..15, a level is (code - 7.5) * 0.3625) of column j % 4 of the rows j / 4 (low half) and j / 4
/// + 16. Columns are padded to 64 with code 0.
///
/// Beside it lie the int8 weights once more, row by row: the head keeps 16 rows together, so that reading
/// one there costs as much memory traffic as reading all.
class head_screen {
 public:
  static constexpr std::size_t block_rows = 32;
  static constexpr float clip = 2.9F;
  static constexpr int levels = 16;
  static_assert(block_rows == head_matrix::block_rows());

  head_screen() = default;
  /// Takes the shape of `head`, whose format is int8; undefined until `fold` and `pack_block` were called.
  /// Throws std::bad_alloc.
  explicit head_screen(const head_matrix& head);

  /// Bytes that codes and rows take.
  static std::size_t memory_bytes(std::size_t rows, std::size_t cols) noexcept;

  std::size_t rows() const noexcept { return rows_; }
  std::size_t cols() const noexcept { return cols_; }
  std::size_t padded_cols() const noexcept { return padded_cols_; }
  std::size_t block_count() const noexcept { return (rows_ + block_rows - 1) / block_rows; }

  /// Sums of a column over some rows.
  struct column_sums {
    double values = 0;
    double squares = 0;
  };
  /// The sums of every column of one block of `head`. The screen is the same bits on every machine where
  /// sums of blocks are added in the order of blocks.
  static void add_block(const head_matrix& head, std::size_t block, std::span<column_sums> sums) noexcept;

  /// Sets means and deviations from sums over the whole head; before any pack_block.
  void fold(std::span<const column_sums> sums) noexcept;

  /// Packs one block of the head, codes and rows. Blocks may be packed from different threads at once.
  void pack_block(std::size_t block, const head_matrix& head) noexcept;

  /// One factor a column, its deviation: what activations are multiplied by.
  std::span<const float> factors() const noexcept { return factors_; }

  /// Packed codes of one block: padded_cols() * 16 bytes.
  const std::uint8_t* block(std::size_t index) const noexcept {
    return reinterpret_cast<const std::uint8_t*>(codes_.data()) + index * padded_cols_ * 16;
  }
  std::span<const std::byte> code_bytes() const noexcept { return {codes_.data(), codes_.size()}; }

  /// The int8 weights of a row, plus 128, as the head has them: padded_cols() bytes, the padding 128.
  const std::uint8_t* int8_row(std::size_t r) const noexcept {
    return reinterpret_cast<const std::uint8_t*>(int8_rows_.data()) + r * padded_cols_;
  }
  std::span<const std::byte> int8_row_bytes() const noexcept {
    return {int8_rows_.data(), int8_rows_.size()};
  }

 private:
  void copy_rows(std::size_t block, const head_matrix& head) noexcept;

  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::size_t padded_cols_ = 0;
  std::vector<float> means_;
  std::vector<float> factors_;
  weight_buffer codes_;
  weight_buffer int8_rows_;
};

/// Where the scores of some tokens go, and the greatest of each block.
struct screen_scores {
  std::int32_t* scores;  ///< [tokens][stride], one a row of the head
  std::size_t stride;
  std::int32_t* maxima;  ///< [tokens][maxima_stride], one a block
  std::size_t maxima_stride;
};

/// The products of one instruction set; all give the same numbers. None allocates, throws or blocks.
struct head_screen_kernels {
  /// scores[m][r] = sum over k of code[r][k] * x[m][k], for all rows m of x and the rows r of the blocks; and
  /// the greatest of each of these blocks. Precondition: x lies in the layout that the table matmul_kernels
  /// of this instruction set wants. No alignment is needed.
  void (*scores)(const head_screen& w, const activation_rows& x, const screen_scores& out, work_range blocks);

  /// logits[i] = what matmul_kernels::head_int8 gives for row rows[i], i < count, and token m of x (in any
  /// layout), the same bits. `scales`: those of the head.
  void (*rescore)(const head_screen& w, const float* scales, const activation_rows& x, std::size_t m,
                  const std::uint32_t* rows, std::size_t count, float* logits);
};

/// Precondition: is_supported(isa).
const head_screen_kernels& head_screen_kernels_for(instruction_set isa) noexcept;

/// The greatest scores of some blocks, found among scores that are there: `tokens` rows of them.
void find_block_maxima(const head_screen& w, std::size_t tokens, const screen_scores& out,
                       work_range blocks) noexcept;

/// Finds the rows with the greatest scores. Reuses memory: one selector a thread.
class candidate_selector {
 public:
  /// Takes memory for rows of so many scores. Throws std::bad_alloc.
  explicit candidate_selector(std::size_t most_scores);

  /// Writes the ids of the out.size() greatest scores, of equals those with smaller ids, in rising order.
  /// `maxima`: the greatest of each 32 scores. Precondition: out.size() <= scores.size() <=
  /// most_scores. Allocates nothing.
  void select(std::span<const std::int32_t> scores, std::span<const std::int32_t> maxima,
              std::span<std::uint32_t> out) noexcept;

 private:
  std::vector<std::int32_t> order_;   ///< maxima, partly ordered
  std::vector<std::uint64_t> found_;  ///< scores that may be among the greatest, with their ids
  std::vector<std::uint64_t> ranked_;
};

}  // namespace bitnet::kernels
