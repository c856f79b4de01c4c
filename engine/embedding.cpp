#include "engine/embedding.hpp"

#include "engine/dequantize.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace bitnet::engine {

namespace {

/// Rows that one thread copies at a time, about 1 MB each.
std::size_t rows_of_slice(std::size_t row_bytes) {
  return std::max<std::size_t>(1, (1U << 20) / row_bytes);
}

/// Integer arithmetic, so that it becomes vector code.
bool all_finite(std::span<const float> values) noexcept {
  std::uint32_t bad = 0;
  for (const float value : values) {
    bad |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(value) & 0x7F800000U) == 0x7F800000U);
  }
  return bad == 0;
}

tl::unexpected<error> not_finite(const gguf_tensor& tensor) {
  return fail(error_code::file_malformed,
              fmt::format("tensor {} holds a value that is not finite; download or convert the file again",
                          in_quotes(tensor.name)));
}

result<tensor_type> dequantizable_type(const gguf_tensor& tensor) {
  const auto type = known_tensor_type(tensor.type);
  if (type && is_dequantizable(*type)) return *type;
  return fail(error_code::unsupported_model,
              fmt::format("tensor {} is stored as {}; store it as F16, BF16, F32, Q8_0, Q6_K or Q4_K",
                          in_quotes(tensor.name), tensor_type_name(tensor.type)));
}

class stored_table final : public embedding_table {
 public:
  stored_table(tensor_type type, std::size_t rows, std::size_t cols)
      : type_(type),
        cols_(cols),
        row_bytes_(cols / layout_of(type).elements * layout_of(type).bytes),
        storage_(rows * row_bytes_) {}

  void row(token_id token, float* out) const noexcept override {
    dequantize(type_, storage_.data() + token * row_bytes_, cols_, out);
  }
  std::span<const std::byte> bytes() const noexcept override { return {storage_.data(), storage_.size()}; }

  std::span<std::byte> stored_rows(std::size_t first, std::size_t last) noexcept {
    return {storage_.data() + first * row_bytes_, (last - first) * row_bytes_};
  }
  std::size_t row_bytes() const noexcept { return row_bytes_; }

 private:
  tensor_type type_;
  std::size_t cols_;
  std::size_t row_bytes_;
  kernels::weight_buffer storage_;
};

}  // namespace

result<std::unique_ptr<embedding_table>> load_embedding(load_session& session, const gguf_tensor& tensor,
                                                        bool check_values) {
  const auto type = dequantizable_type(tensor);
  if (!type) return tl::unexpected(type.error());
  const auto rows = static_cast<std::size_t>(tensor.rows());
  const auto cols = static_cast<std::size_t>(tensor.cols());
  auto table = std::make_unique<stored_table>(*type, rows, cols);
  const std::size_t step = rows_of_slice(table->row_bytes());
  auto done = session.parallel(
      (rows + step - 1) / step, [&](load_scratch& scratch, std::size_t index) -> result<void> {
        const std::size_t first = index * step;
        const std::size_t last = std::min(rows, first + step);
        const auto bytes = table->stored_rows(first, last);
        if (auto read = session.file().read(tensor, first * table->row_bytes(), bytes); !read) return read;
        const auto values = scratch.values(cols);
        for (std::size_t row = first; check_values && row < last; ++row) {
          table->row(static_cast<token_id>(row), values.data());
          if (!all_finite(values)) return not_finite(tensor);
        }
        session.add_progress(bytes.size());
        return {};
      });
  if (!done) return tl::unexpected(std::move(done.error()));
  return table;
}

result<kernels::head_matrix> load_head(load_session& session, const gguf_tensor& tensor,
                                       kernels::head_matrix::format format) {
  const auto type = dequantizable_type(tensor);
  if (!type) return tl::unexpected(type.error());
  const auto rows = static_cast<std::size_t>(tensor.rows());
  const auto cols = static_cast<std::size_t>(tensor.cols());
  const std::size_t row_bytes = cols / layout_of(*type).elements * layout_of(*type).bytes;
  kernels::head_matrix head(rows, cols, format);
  auto done =
      session.parallel(head.block_count(), [&](load_scratch& scratch, std::size_t block) -> result<void> {
        const std::size_t first = block * head.block_rows();
        const std::size_t last = std::min(rows, first + head.block_rows());
        const auto bytes = scratch.bytes((last - first) * row_bytes);
        if (auto read = session.file().read(tensor, first * row_bytes, bytes); !read) return read;
        const auto values = scratch.values((last - first) * cols);
        dequantize(*type, bytes.data(), values.size(), values.data());
        if (!all_finite(values)) return not_finite(tensor);
        head.pack_block(block, values.data());
        session.add_progress(bytes.size());
        return {};
      });
  if (!done) return tl::unexpected(std::move(done.error()));
  return head;
}

result<kernels::head_matrix> head_from_embedding(load_session& session, const gguf_tensor& tensor,
                                                 const embedding_table& table,
                                                 kernels::head_matrix::format format) {
  const auto rows = static_cast<std::size_t>(tensor.rows());
  const auto cols = static_cast<std::size_t>(tensor.cols());
  kernels::head_matrix head(rows, cols, format);
  auto done =
      session.parallel(head.block_count(), [&](load_scratch& scratch, std::size_t block) -> result<void> {
        const std::size_t first = block * head.block_rows();
        const std::size_t last = std::min(rows, first + head.block_rows());
        const auto values = scratch.values((last - first) * cols);
        for (std::size_t row = first; row < last; ++row)
          table.row(static_cast<token_id>(row), values.data() + (row - first) * cols);
        if (!all_finite(values)) return not_finite(tensor);
        head.pack_block(block, values.data());
        return {};
      });
  if (!done) return tl::unexpected(std::move(done.error()));
  return head;
}

}  // namespace bitnet::engine
