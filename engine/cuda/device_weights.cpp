#include "engine/cuda/device_weights.hpp"

#include "engine/rope_table.hpp"
#include "kernels/cuda/packing.hpp"
#include "kernels/half.hpp"
#include "kernels/team.hpp"

#include <algorithm>
#include <atomic>
#include <functional>

namespace bitnet::engine::cuda {

namespace {

using kernels::cuda::packed_matrix;
using kernels::cuda::weight_view;

/// Embedding rows that are converted at a time.
constexpr std::size_t rows_a_slice = 2048;

class uploader {
 public:
  uploader(const model_weights& weights, device_memory& memory, kernels::cuda::stream& stream)
      : weights_(weights), memory_(memory), stream_(stream) {}

  device_weights run() {
    add_blocks();
    copy_embedding();
    out_.output_norm = copy(weights_.output_norm);
    if (weights_.head.storage_format() == kernels::head_matrix::format::int8)
      add_matrix(out_.head_int8, [this] { return kernels::cuda::pack_head(weights_.head); });
    else
      copy_f16_head();
    const rope_table rope(weights_.config);
    const auto angles = std::size_t{weights_.config.context_length} * (weights_.config.head_dim / 2);
    out_.rope_cos = copy(rope.cos(0), angles);
    out_.rope_sin = copy(rope.sin(0), angles);
    pack_and_copy();
    stream_.wait();
    return std::move(out_);
  }

 private:
  using packing = std::function<packed_matrix()>;

  void add_blocks() {
    out_.blocks.resize(weights_.blocks.size());
    for (std::size_t i = 0; i < weights_.blocks.size(); ++i) {
      const auto& from = weights_.blocks[i];
      auto& to = out_.blocks[i];
      to.attn_norm = copy(from.attn_norm);
      to.attn_sub_norm = copy(from.attn_sub_norm);
      to.ffn_norm = copy(from.ffn_norm);
      to.ffn_sub_norm = copy(from.ffn_sub_norm);
      add_ternary(to.qkv, {&from.attn_q, &from.attn_k, &from.attn_v});
      add_ternary(to.attn_output, {&from.attn_output});
      add_ternary(to.gate_up, {&from.ffn_gate, &from.ffn_up});
      add_ternary(to.down, {&from.ffn_down});
    }
  }

  void add_ternary(weight_view& to, std::vector<const kernels::ternary_matrix*> parts) {
    add_matrix(to, [parts = std::move(parts)] { return kernels::cuda::pack_ternary(parts); });
  }
  void add_matrix(weight_view& to, packing pack) {
    views_.push_back(&to);
    packings_.push_back(std::move(pack));
  }

  /// As many at a time as there are CPUs: all at once would take the model's memory once more.
  void pack_and_copy() {
    std::vector<packed_matrix> packed(team_.size());
    for (std::size_t start = 0; start < packings_.size(); start += packed.size()) {
      const auto count = std::min(packed.size(), packings_.size() - start);
      std::atomic<bool> out_of_memory{false};
      team_.run([&](kernels::team_member& member) {
        if (member.index() >= count) return;
        try {
          packed[member.index()] = packings_[start + member.index()]();
        } catch (const std::bad_alloc&) {
          out_of_memory = true;
        }
      });
      if (out_of_memory) throw std::bad_alloc();
      for (std::size_t i = 0; i < count; ++i) *views_[start + i] = copy_matrix(packed[i]);
    }
  }

  weight_view copy_matrix(const packed_matrix& m) {
    weight_view view;
    view.tiles = copy(m.tiles.data(), m.tiles.size());
    view.row_scales = copy(m.row_scales);
    view.rows = m.rows;
    view.padded_rows = m.padded_rows;
    view.padded_cols = m.padded_cols;
    return view;
  }

  template <class T>
  const T* copy(const T* from, std::size_t count) {
    auto* const to = memory_.take<T>(count);
    stream_.copy_to_device(to, from, count * sizeof(T));
    stream_.wait();  // `from` may go
    return to;
  }
  /// Null where there are none.
  const float* copy(const std::vector<float>& values) {
    return values.empty() ? nullptr : copy(values.data(), values.size());
  }

  /// Calls body(row, values) for all rows of the embedding, on all threads.
  void for_rows(std::size_t first, std::size_t last,
                const std::function<void(std::size_t, const float*)>& body) {
    std::vector<std::vector<float>> scratch(team_.size(),
                                            std::vector<float>(weights_.config.embedding_length));
    team_.run([&](kernels::team_member& member) {
      const auto share = member.share(last - first);
      auto& values = scratch[member.index()];
      for (auto r = first + share.first; r < first + share.last; ++r) {
        weights_.embedding->row(static_cast<token_id>(r), values.data());
        body(r, values.data());
      }
    });
  }

  bool embedding_is_f16() {
    std::atomic<bool> exact{true};
    const auto cols = weights_.config.embedding_length;
    for_rows(0, weights_.config.vocabulary_size, [&](std::size_t, const float* values) {
      if (!exact.load(std::memory_order_relaxed)) return;
      const bool same = std::all_of(values, values + cols, [](float v) {
        return kernels::float_from_half(kernels::half_from_float(v)) == v;
      });
      if (!same) exact.store(false, std::memory_order_relaxed);
    });
    return exact;
  }

  /// The rows as the CPU would dequantise them, so that both begin with the same bits.
  void copy_embedding() {
    out_.embedding_is_f16 = embedding_is_f16();
    if (out_.embedding_is_f16)
      copy_embedding_as<std::uint16_t>([](float v) { return kernels::half_from_float(v); });
    else
      copy_embedding_as<float>([](float v) { return v; });
  }

  template <class T, class Convert>
  void copy_embedding_as(Convert convert) {
    const std::size_t rows = weights_.config.vocabulary_size;
    const std::size_t cols = weights_.config.embedding_length;
    auto* const to = memory_.take<T>(rows * cols);
    std::vector<T> slice(std::min(rows, rows_a_slice) * cols);
    for (std::size_t first = 0; first < rows; first += rows_a_slice) {
      const auto last = std::min(rows, first + rows_a_slice);
      for_rows(first, last, [&](std::size_t row, const float* values) {
        std::transform(values, values + cols,
                       slice.begin() + static_cast<std::ptrdiff_t>((row - first) * cols), convert);
      });
      stream_.copy_to_device(to + first * cols, slice.data(), (last - first) * cols * sizeof(T));
      stream_.wait();
    }
    out_.embedding = to;
  }

  /// Without the padding of its rows.
  void copy_f16_head() {
    const auto& head = weights_.head;
    std::vector<std::uint16_t> slice(std::min(head.rows(), rows_a_slice) * head.cols());
    auto* const to = memory_.take<std::uint16_t>(head.rows() * head.cols());
    for (std::size_t first = 0; first < head.rows(); first += rows_a_slice) {
      const auto last = std::min(head.rows(), first + rows_a_slice);
      for (auto row = first; row < last; ++row)
        std::copy_n(head.f16_row(row), head.cols(),
                    slice.begin() + static_cast<std::ptrdiff_t>((row - first) * head.cols()));
      stream_.copy_to_device(to + first * head.cols(), slice.data(),
                             (last - first) * head.cols() * sizeof(std::uint16_t));
      stream_.wait();
    }
    out_.head_f16 = to;
  }

  const model_weights& weights_;
  device_memory& memory_;
  kernels::cuda::stream& stream_;
  kernels::team team_;
  device_weights out_;
  std::vector<weight_view*> views_;
  std::vector<packing> packings_;
};

}  // namespace

device_weights upload(const model_weights& weights, device_memory& memory, kernels::cuda::stream& stream) {
  return uploader(weights, memory, stream).run();
}

}  // namespace bitnet::engine::cuda
