#include "engine/linear_weights.hpp"

#include "engine/dequantize.hpp"
#include "engine/ternary_decode.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

namespace bitnet::engine {

namespace {

using kernels::ternary_matrix;

/// Rows of a slice, one piece of work for a thread: eight blocks, so that a slice's file bytes and its packed
/// bytes stay in a core's second-level cache together.
constexpr std::size_t slice_rows = 8 * ternary_matrix::block_rows;

struct row_range {
  std::size_t first;
  std::size_t last;
  std::size_t size() const noexcept { return last - first; }
};

std::size_t slice_count(std::size_t rows) {
  return (rows + slice_rows - 1) / slice_rows;
}

row_range slice(std::size_t index, std::size_t rows) {
  return {index * slice_rows, std::min(rows, (index + 1) * slice_rows)};
}

tl::unexpected<error> damaged(const gguf_tensor& tensor, std::string_view reason) {
  return fail(error_code::file_malformed,
              fmt::format("tensor {} ({}) {}; download or convert the file again", in_quotes(tensor.name),
                          tensor_type_name(tensor.type), reason));
}

tl::unexpected<error> invalid_code(const gguf_tensor& tensor) {
  return damaged(tensor, "holds the code 3, which is no ternary weight: it is damaged or in another layout");
}

/// What the groups of a TQ tensor say about its scale. Groups whose weights are all zero do not count.
struct scale_survey {
  float scale = 0.0F;
  bool uniform = true;

  void add(float other) noexcept {
    if (scale == 0.0F) scale = other;
    uniform = uniform && scale == other;
  }
};

result<scale_survey> combine(const gguf_tensor& tensor, const std::vector<scale_survey>& slices) {
  scale_survey all;
  for (const scale_survey& part : slices) {
    if (part.scale == 0.0F) continue;
    all.add(part.scale);
    all.uniform = all.uniform && part.uniform;
  }
  if (!std::isfinite(all.scale)) return damaged(tensor, "has a scale that is not finite");
  return all;
}

/// Sums of |w| over a tensor, for the absmean rule, and its extremes, to recognise ternary weights.
struct magnitude_survey {
  double sum = 0.0;
  float least = std::numeric_limits<float>::infinity();  ///< of the non-zero ones
  float greatest = 0.0F;
  bool finite = true;

  void add(std::span<const float> values) noexcept {
    for (const float value : values) {
      const float magnitude = std::fabs(value);
      finite = finite && magnitude <= std::numeric_limits<float>::max();
      sum += static_cast<double>(magnitude);
      greatest = std::max(greatest, magnitude);
      if (magnitude > 0.0F) least = std::min(least, magnitude);
    }
  }
  void add(const magnitude_survey& other) noexcept {
    sum += other.sum;
    least = std::min(least, other.least);
    greatest = std::max(greatest, other.greatest);
    finite = finite && other.finite;
  }
};

/// Loads one tensor; a member function a way of storing weights.
class linear_loader {
 public:
  linear_loader(load_session& session, const gguf_tensor& tensor, ternary_matrix& out)
      : session_(session),
        tensor_(tensor),
        type_(static_cast<tensor_type>(tensor.type)),
        rows_(out.rows()),
        cols_(out.cols()),
        matrix_(out) {}

  result<void> load() {
    switch (type_) {
      case tensor_type::i2_s:
        return load_i2_s();
      case tensor_type::tq1_0:
      case tensor_type::tq2_0:
        return load_tq();
      case tensor_type::f32:
      case tensor_type::f16:
      case tensor_type::bf16:
        return load_real();
      case tensor_type::q8_0:
      case tensor_type::q4_k:
      case tensor_type::q6_k:
        break;
    }
    return fail(
        error_code::unsupported_model,
        fmt::format("tensor {} is a linear layer stored as {}, which is not ternary; convert the model to "
                    "I2_S or TQ2_0",
                    in_quotes(tensor_.name), tensor_type_name(type_)));
  }

 private:
  template <class Work>  // result<void>(load_scratch&, std::size_t slice, row_range)
  result<void> for_each_slice(const Work& work) {
    return session_.parallel(slice_count(rows_), [&](load_scratch& scratch, std::size_t index) {
      return work(scratch, index, slice(index, rows_));
    });
  }

  void progress(const row_range& rows) { session_.add_progress(tensor_.size_bytes / rows_ * rows.size()); }

  // I2_S ---------------------------------------------------------------------------------------------------

  result<void> load_i2_s() {
    float scale = 0.0F;
    auto done = session_.file().read(tensor_, tensor_.size_bytes - layout_of(type_).trailer,
                                     std::as_writable_bytes(std::span(&scale, 1)));
    if (!done) return done;
    if (!std::isfinite(scale) || scale < 0.0F)
      return damaged(tensor_, fmt::format("has a scale of {}", scale));
    matrix_.set_scale(scale);
    done = check_plausible();
    if (!done) return done;
    if (cols_ % two_bit_group_weights == 0) return repack_i2_s();
    return unpack_i2_s();
  }

  /// No real layer is all zero, or has no zero at all; a wrong layout or a damaged file can be.
  result<void> check_plausible() {
    load_scratch scratch;
    const std::uint64_t groups =
        std::min<std::uint64_t>(tensor_.element_count() / two_bit_group_weights, 4096);
    const auto bytes = scratch.bytes(static_cast<std::size_t>(groups) * two_bit_group_bytes);
    if (auto done = session_.file().read(tensor_, 0, bytes); !done) return done;
    std::int8_t weights[two_bit_group_weights];
    std::size_t zeros = 0;
    for (std::size_t g = 0; g < groups; ++g) {
      if (!decode_two_bit_group(two_bit_order::high_first, bytes.data() + g * two_bit_group_bytes, weights))
        return invalid_code(tensor_);
      zeros += static_cast<std::size_t>(std::count(std::begin(weights), std::end(weights), 0));
    }
    const double share = static_cast<double>(zeros) / static_cast<double>(groups * two_bit_group_weights);
    if (share < 0.01 || share > 0.99) session_.note_implausible(tensor_.name);
    return {};
  }

  result<void> repack_i2_s() {
    const std::size_t row_bytes = cols_ / 4;
    return for_each_slice([&](load_scratch& scratch, std::size_t, row_range rows) -> result<void> {
      const auto bytes = scratch.bytes(rows.size() * row_bytes);
      if (auto done = session_.file().read(tensor_, rows.first * row_bytes, bytes); !done) return done;
      const bool valid = repack(two_bit_order::high_first, rows, [&](std::size_t row, std::size_t group) {
        return bytes.data() + row * row_bytes + group * two_bit_group_bytes;
      });
      if (!valid) return invalid_code(tensor_);
      progress(rows);
      return {};
    });
  }

  /// Packs rows whose groups of 128 codes `group_at(row - rows.first, group)` gives.
  template <class GroupAt>
  bool repack(two_bit_order order, row_range rows, const GroupAt& group_at) {
    constexpr std::size_t group_chunk_bytes = two_bit_group_weights * ternary_matrix::block_rows / 4;
    bool valid = true;
    for (std::size_t first = rows.first; first < rows.last; first += ternary_matrix::block_rows) {
      std::uint8_t* block = matrix_.block(first / ternary_matrix::block_rows);
      for (std::size_t group = 0; group < cols_ / two_bit_group_weights; ++group) {
        const std::byte* sources[ternary_matrix::block_rows];
        for (std::size_t r = 0; r < ternary_matrix::block_rows; ++r) {
          sources[r] =
              first + r < rows.last ? group_at(first + r - rows.first, group) : two_bit_zero_group.data();
        }
        valid = repack_two_bit_groups(order, sources, block + group * group_chunk_bytes) && valid;
      }
    }
    return valid;
  }

  /// Rows that do not begin at a group: decode what covers the slice.
  result<void> unpack_i2_s() {
    return for_each_slice([&](load_scratch& scratch, std::size_t, row_range rows) -> result<void> {
      const std::size_t first_group = rows.first * cols_ / two_bit_group_weights;
      const std::size_t last_group = (rows.last * cols_ + two_bit_group_weights - 1) / two_bit_group_weights;
      const auto bytes = scratch.bytes((last_group - first_group) * two_bit_group_bytes);
      if (auto done = session_.file().read(tensor_, first_group * two_bit_group_bytes, bytes); !done)
        return done;
      const auto weights = scratch.weights((last_group - first_group) * two_bit_group_weights);
      for (std::size_t g = 0; g < last_group - first_group; ++g) {
        if (!decode_two_bit_group(two_bit_order::high_first, bytes.data() + g * two_bit_group_bytes,
                                  weights.data() + g * two_bit_group_weights)) {
          return invalid_code(tensor_);
        }
      }
      pack(rows, weights.data() + (rows.first * cols_ - first_group * two_bit_group_weights));
      progress(rows);
      return {};
    });
  }

  void pack(row_range rows, const std::int8_t* weights) {
    for (std::size_t first = rows.first; first < rows.last; first += ternary_matrix::block_rows)
      matrix_.pack_block(first / ternary_matrix::block_rows, weights + (first - rows.first) * cols_);
  }

  // TQ1_0, TQ2_0 -------------------------------------------------------------------------------------------

  std::size_t row_bytes() const {
    const tensor_layout layout = layout_of(type_);
    return cols_ / layout.elements * layout.bytes;
  }

  result<void> load_tq() {
    std::vector<scale_survey> surveys(slice_count(rows_));
    auto done = for_each_slice([&](load_scratch& scratch, std::size_t index, row_range rows) -> result<void> {
      const auto bytes = scratch.bytes(rows.size() * row_bytes());
      if (auto read = session_.file().read(tensor_, rows.first * row_bytes(), bytes); !read) return read;
      auto packed = type_ == tensor_type::tq2_0 ? pack_tq2_0(bytes, rows) : pack_tq1_0(scratch, bytes, rows);
      if (!packed) return tl::unexpected(std::move(packed.error()));
      surveys[index] = *packed;
      progress(rows);
      return {};
    });
    if (!done) return done;
    const auto survey = combine(tensor_, surveys);
    if (!survey) return tl::unexpected(survey.error());
    if (!survey->uniform) return load_real();
    if (survey->scale < 0.0F) return damaged(tensor_, fmt::format("has a scale of {}", survey->scale));
    matrix_.set_scale(survey->scale);
    return {};
  }

  result<scale_survey> pack_tq2_0(std::span<const std::byte> bytes, row_range rows) {
    constexpr std::size_t group_bytes = 66;
    scale_survey survey;
    const auto is_zero = [](const std::byte* group) {
      return std::memcmp(group, two_bit_zero_group.data(), two_bit_group_bytes) == 0 &&
             std::memcmp(group + two_bit_group_bytes, two_bit_zero_group.data(), two_bit_group_bytes) == 0;
    };
    for (const std::byte* group = bytes.data(); group != bytes.data() + bytes.size(); group += group_bytes) {
      float scale = 0.0F;
      dequantize(tensor_type::f16, group + 64, 1, &scale);
      if (scale != 0.0F && scale != survey.scale && !is_zero(group)) survey.add(scale);
    }
    const bool valid = repack(two_bit_order::low_first, rows, [&](std::size_t row, std::size_t half) {
      const std::byte* group = bytes.data() + row * row_bytes() + half / 2 * group_bytes;
      // Codes without a scale are zeros whatever they say.
      const bool zero = (group[64] | (group[65] & std::byte{0x7F})) == std::byte{0};
      return zero ? two_bit_zero_group.data() : group + half % 2 * two_bit_group_bytes;
    });
    if (!valid) return invalid_code(tensor_);
    return survey;
  }

  result<scale_survey> pack_tq1_0(load_scratch& scratch, std::span<const std::byte> bytes, row_range rows) {
    scale_survey survey;
    const auto weights = scratch.weights(rows.size() * cols_);
    for (std::size_t g = 0; g < weights.size() / 256; ++g) {
      std::int8_t* out = weights.data() + 256 * g;
      const tq_group group = decode_tq1_0_group(bytes.data() + 54 * g, out);
      if (group.scale == 0.0F)
        std::fill_n(out, 256, std::int8_t{0});
      else if (!group.zero)
        survey.add(group.scale);
    }
    pack(rows, weights.data());
    return survey;
  }

  // Values that need not be ternary ------------------------------------------------------------------------

  result<void> load_real() {
    const bool counted = is_ternary(type_);  // a first pass over TQ groups has moved the progress already
    std::vector<magnitude_survey> surveys(slice_count(rows_));
    auto done = for_each_slice([&](load_scratch& scratch, std::size_t index, row_range rows) -> result<void> {
      const auto values = read_values(scratch, rows);
      if (!values) return tl::unexpected(values.error());
      surveys[index].add(*values);
      return {};
    });
    if (!done) return done;
    // In order, so that the sum does not depend on the number of threads.
    magnitude_survey all;
    for (const magnitude_survey& part : surveys) all.add(part);
    if (!all.finite) return damaged(tensor_, "holds a value that is not finite");

    const bool ternary = all.greatest > 0.0F && all.least == all.greatest;
    const double mean = all.sum / static_cast<double>(rows_ * cols_);
    const float scale = ternary ? all.greatest : std::max(static_cast<float>(mean), 1e-5F);
    if (!ternary) session_.note_requantized(tensor_.name);
    matrix_.set_scale(scale);
    const float inverse = 1.0F / scale;
    return for_each_slice([&](load_scratch& scratch, std::size_t, row_range rows) -> result<void> {
      const auto values = read_values(scratch, rows);
      if (!values) return tl::unexpected(values.error());
      const auto weights = scratch.weights(values->size());
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const float value = (*values)[i];
        weights[i] = ternary
                         ? static_cast<std::int8_t>((value > 0.0F) - (value < 0.0F))
                         : static_cast<std::int8_t>(std::clamp(std::nearbyint(value * inverse), -1.0F, 1.0F));
      }
      pack(rows, weights.data());
      if (!counted) progress(rows);
      return {};
    });
  }

  result<std::span<const float>> read_values(load_scratch& scratch, row_range rows) {
    const auto bytes = scratch.bytes(rows.size() * row_bytes());
    if (auto done = session_.file().read(tensor_, rows.first * row_bytes(), bytes); !done)
      return tl::unexpected(std::move(done.error()));
    const auto values = scratch.values(rows.size() * cols_);
    if (!is_ternary(type_)) {
      dequantize(type_, bytes.data(), values.size(), values.data());
      return std::span<const float>(values);
    }
    std::int8_t weights[256];
    for (std::size_t g = 0; g < values.size() / 256; ++g) {
      const tq_group group = type_ == tensor_type::tq2_0 ? decode_tq2_0_group(bytes.data() + 66 * g, weights)
                                                         : decode_tq1_0_group(bytes.data() + 54 * g, weights);
      for (std::size_t i = 0; i < 256; ++i)
        values[256 * g + i] = group.scale * static_cast<float>(weights[i]);
    }
    return std::span<const float>(values);
  }

  load_session& session_;
  const gguf_tensor& tensor_;
  tensor_type type_;
  std::size_t rows_;
  std::size_t cols_;
  ternary_matrix& matrix_;
};

}  // namespace

result<void> load_linear(load_session& session, const gguf_tensor& tensor, ternary_matrix& out) {
  return linear_loader(session, tensor, out).load();
}

}  // namespace bitnet::engine
