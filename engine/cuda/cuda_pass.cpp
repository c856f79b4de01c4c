#include "engine/cuda/cuda_pass.hpp"

#include "kernels/cuda/layout.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

namespace bitnet::engine::cuda {

namespace {

using kernels::cuda::choice;
using kernels::cuda::choices_a_row;
using kernels::cuda::norm_input;
using kernels::cuda::product_output;
using kernels::cuda::weight_format;

/// More shapes than this are launched kernel by kernel: a recording takes host and device memory.
constexpr std::size_t most_graphs = 96;

std::int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::size_t padded(std::size_t cols) noexcept {
  return kernels::cuda::round_up(cols, kernels::cuda::col_padding);
}

std::size_t longest_input(const model_config& c) noexcept {
  return std::max({padded(c.embedding_length), padded(c.query_length()), padded(c.feed_forward_length)});
}

/// Comes before all that needs the device's context.
int opened(int device) {
  kernels::cuda::use_device(device);
  return device;
}

static_assert(most_candidates == choices_a_row);

/// Where the choices begin in the results: behind the rows' flags, aligned.
std::size_t choices_at(const pass_limits& limits) noexcept {
  return kernels::cuda::round_up(limits.rows, sizeof(choice) / sizeof(std::int32_t));
}
std::size_t result_words_of(const pass_limits& limits, std::size_t choices) noexcept {
  return choices_at(limits) + choices * (sizeof(choice) / sizeof(std::int32_t));
}
/// Choices of each logits row.
std::size_t choices_of(const step_shape& shape) noexcept {
  return shape.selects ? choices_a_row : 1;
}

/// No more scratch than the largest pass can use, and at least one tile's.
std::size_t scratch_floats(const model_config& c, const step_layout& layout, std::size_t most_bytes) {
  const auto largest = layout.most_tiles * least_scratch_floats(c);
  return std::clamp(most_bytes / sizeof(float), least_scratch_floats(c), largest);
}

}  // namespace

cuda_pass::cuda_pass(const model_weights& weights, const pass_limits& limits, int device,
                     const cuda_options& options)
    : config_(weights.config),
      head_format_(weights.head.storage_format()),
      limits_(limits),
      device_(opened(device)),
      options_(options),
      layout_(config_, limits),
      score_floats_(scratch_floats(config_, layout_, options.score_bytes)),
      candidates_(limits.logits_rows * most_candidates),
      candidates_of_row_(limits.logits_rows),
      chunk_failed_(limits.chunks) {
  weights_ = upload(weights, memory_, stream_);
  const auto& c = config_;
  at_.description = memory_.take<std::int32_t>(layout_.words);
  at_.residual = memory_.take<float>(limits.rows * c.embedding_length);
  at_.qkv = memory_.take<float>(limits.rows * (c.query_length() + 2 * c.kv_length()));
  at_.attended = memory_.take<float>(limits.rows * c.query_length());
  at_.gate_up = memory_.take<float>(limits.rows * 2 * c.feed_forward_length);
  at_.activations = memory_.take<std::int8_t>(limits.rows * longest_input(c));
  at_.scales = memory_.take<float>(limits.rows);
  at_.sums = memory_.take<std::int32_t>(limits.rows);
  at_.scores = memory_.take<float>(score_floats_);
  if (head_format_ == kernels::head_matrix::format::f16)
    at_.head_floats = memory_.take<float>(limits.logits_rows * c.embedding_length);
  at_.logits = memory_.take<float>(limits.logits_rows * c.vocabulary_size);
  at_.selection = memory_.take<std::uint64_t>(
      limits.logits_rows * kernels::cuda::selection_slices(c.vocabulary_size) * choices_a_row);
  const auto result_words = result_words_of(limits, limits.logits_rows * choices_a_row);
  at_.results = memory_.take<std::int32_t>(result_words);
  description_ = kernels::cuda::pinned_buffer(layout_.words * sizeof(std::int32_t));
  results_ = kernels::cuda::pinned_buffer(result_words * sizeof(std::int32_t));
  logits_ = kernels::cuda::pinned_buffer(limits.logits_rows * c.vocabulary_size * sizeof(float));
}

std::size_t cuda_pass::memory_for_kv_bytes() {
  return kernels::cuda::device_memory().free_bytes;
}

result<void> cuda_pass::take_kv_blocks(std::size_t count) {
  const auto bytes = count * kv_cache_block_bytes(config_);
  try {
    kv_blocks_ = memory_.take<std::uint16_t>(bytes / sizeof(std::uint16_t));
  } catch (const kernels::cuda::device_error& problem) {
    return fail(problem.kind() == kernels::cuda::fault::out_of_memory ? error_code::out_of_memory
                                                                      : error_code::internal,
                fmt::format("No {} MiB of GPU memory for the KV cache ({}); configure a smaller one.",
                            bytes >> 20U, problem.what()));
  }
  return {};
}

forward_status cuda_pass::forward(std::span<const batch_chunk> chunks, kv_cache&, struct progress& progress) {
  if (progress.cancel.load(std::memory_order_relaxed)) return forward_status::cancelled;
  try {
    return run(chunks, progress);
  } catch (const kernels::cuda::device_error& problem) {
    abandon();
    throw device_lost(fmt::format("The GPU {} is lost: {}.", device_, problem.what()));
  }
}

forward_status cuda_pass::run(std::span<const batch_chunk> chunks, struct progress& progress) {
  kernels::cuda::make_current(device_);
  auto* const words = description_.as<std::int32_t>();
  const auto shape = describe_step(chunks, config_, layout_, words);
  stream_.copy_to_device(at_.description, words, shape.used_words * sizeof(std::int32_t));
  stream_.fill_zero(at_.results, shape.rows * sizeof(std::int32_t));
  if (shape.decodes)
    launch_decode(shape);
  else
    launch(shape);
  const auto result_words = result_words_of(limits_, shape.logits_rows * choices_of(shape));
  stream_.copy_to_host(results_.as<std::int32_t>(), at_.results, result_words * sizeof(std::int32_t));
  fetch_logits(chunks, false);
  if (!wait(progress)) return forward_status::cancelled;

  const auto* const row_failed = results_.as<std::int32_t>();
  std::size_t row = 0;
  for (std::size_t c = 0; c < chunks.size(); ++c) {
    const auto count = chunks[c].tokens.size();
    chunk_failed_[c] = std::any_of(row_failed + row, row_failed + row + count, [](auto f) { return f != 0; });
    row += count;
  }
  if (!take_candidates(chunks, shape)) {
    fetch_logits(chunks, true);
    stream_.wait();
  }
  progress.layer.store(config_.block_count - 1, std::memory_order_relaxed);
  progress.last_progress_ns.store(now_ns(), std::memory_order_relaxed);
  return forward_status::complete;
}

/// False where a row gives no choice: whoever asked for candidates then gets all its logits.
bool cuda_pass::take_candidates(std::span<const batch_chunk> chunks, const step_shape& shape) {
  const auto width = choices_of(shape);
  const auto* choices = reinterpret_cast<const choice*>(results_.as<std::int32_t>() + choices_at(limits_));
  bool all = true;
  std::size_t index = 0;
  for (const auto& chunk : chunks) {
    const auto wanted = std::min<std::size_t>({chunk.candidates, width, config_.vocabulary_size});
    for (std::size_t i = 0; i < chunk.logits; ++i, ++index, choices += width) {
      const auto count = choices->token < 0 ? 0 : wanted;
      candidates_of_row_[index] = count;
      for (std::size_t n = 0; n < count; ++n)
        candidates_[index * most_candidates + n] = {static_cast<token_id>(choices[n].token),
                                                    choices[n].value};
      all = all && count == wanted;
    }
  }
  return all;
}

/// Copies the logits that the host will want: of chunks that want all, or, in a second go, of rows that gave
/// no choice.
void cuda_pass::fetch_logits(std::span<const batch_chunk> chunks, bool without_choice) {
  const auto size = std::size_t{config_.vocabulary_size};
  std::size_t index = 0;
  for (const auto& chunk : chunks) {
    for (std::size_t i = 0; i < chunk.logits; ++i, ++index) {
      const bool wanted =
          without_choice ? chunk.candidates != 0 && candidates_of_row_[index] == 0 : chunk.candidates == 0;
      if (wanted)
        stream_.copy_to_host(logits_.as<float>() + index * size, at_.logits + index * size,
                             size * sizeof(float));
    }
  }
}

/// False where the pass was cancelled (it has ended all the same). A kernel cannot be stopped: where one does
/// not end within the limit after a cancellation, the device is given up.
bool cuda_pass::wait(struct progress& progress) {
  using clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds spin{2};  // about a decode step: sleeping would cost part of it
  const auto start = clock::now();
  std::optional<clock::time_point> cancelled;
  while (!stream_.finished()) {
    const auto now = clock::now();
    if (!cancelled && progress.cancel.load(std::memory_order_relaxed)) cancelled = now;
    if (cancelled && now - *cancelled > options_.hang_limit) {
      throw kernels::cuda::device_error(
          kernels::cuda::fault::sticky,
          fmt::format("a kernel has not ended {} ms after its pass was cancelled",
                      options_.hang_limit.count()));
    }
    if (now - start < spin)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return !cancelled;
}

std::span<float> cuda_pass::logits(std::size_t index) noexcept {
  return {logits_.as<float>() + index * config_.vocabulary_size, config_.vocabulary_size};
}

std::span<const candidate> cuda_pass::candidates(std::size_t index) const noexcept {
  return {candidates_.data() + index * most_candidates, candidates_of_row_[index]};
}

/// Launches kernel by kernel the first time, so that the driver has loaded the kernels before they are
/// recorded: loading may have to wait for the device, which a recording must not. Where there is no memory
/// for a recording, it goes on like that.
void cuda_pass::launch_decode(const step_shape& shape) {
  const std::tuple key{shape.rows, shape.most_blocks, shape.selects};
  const auto known = graphs_.find(key);
  if (known == graphs_.end()) {
    if (graphs_.size() < most_graphs) graphs_.emplace(key, std::nullopt);
    return launch(shape);
  }
  auto& graph = known->second;
  if (!graph) {
    try {
      graph.emplace(stream_, [&] { launch(shape); });
    } catch (const kernels::cuda::device_error& problem) {
      if (problem.kind() != kernels::cuda::fault::out_of_memory) throw;
      return launch(shape);
    }
  }
  graph->launch(stream_);
}

kernels::cuda::activation_view cuda_pass::activations_of(std::size_t cols) const noexcept {
  return {.values = at_.activations, .scales = at_.scales, .sums = at_.sums, .stride = padded(cols)};
}

kernels::cuda::qkv_view cuda_pass::qkv() const noexcept {
  return {.rows = at_.qkv,
          .stride = config_.query_length() + 2 * config_.kv_length(),
          .heads = config_.head_count,
          .kv_heads = config_.kv_head_count,
          .head_dim = config_.head_dim};
}

kernels::cuda::kv_view cuda_pass::kv() const noexcept {
  return {.blocks = kv_blocks_,
          .layers = config_.block_count,
          .layer_halves = kernels::kv_block_bytes(config_.kv_head_count, config_.head_dim) / 2,
          .table = at_.description + layout_.table,
          .table_stride = layout_.table_stride};
}

/// Launches the whole pass over what the description says; the shape alone decides about the launches.
void cuda_pass::launch(const step_shape& shape) {
  kernels::cuda::embed(weights_.embedding, weights_.embedding_is_f16, config_.embedding_length,
                       at_.description + layout_.tokens, shape.rows, at_.residual, stream_.handle());
  for (std::size_t layer = 0; layer < weights_.blocks.size(); ++layer) launch_layer(layer, shape);
  if (shape.logits_rows != 0) launch_head(shape);
}

/// x += attention(norm(x)); x += ffn(norm(x)): the steps of engine::transformer, in the same order.
void cuda_pass::launch_layer(std::size_t layer, const step_shape& shape) {
  const auto& block = weights_.blocks[layer];
  const auto& c = config_;
  auto* const on = stream_.handle();
  const auto product = [&](const kernels::cuda::weight_view& w, std::size_t cols, float* y,
                           std::size_t stride, product_output output) {
    kernels::cuda::multiply(w, weight_format::ternary, activations_of(cols), shape.rows, y, stride, output,
                            on);
  };
  const std::size_t d = c.embedding_length;
  normalise(at_.residual, d, norm_input::plain, block.attn_norm, d, shape.rows);
  product(block.qkv, d, at_.qkv, qkv().stride, product_output::store);
  kernels::cuda::rotate_and_store({.qkv = qkv(),
                                   .kv = kv(),
                                   .layer = layer,
                                   .kind = c.rope,
                                   .cos = weights_.rope_cos,
                                   .sin = weights_.rope_sin,
                                   .positions = at_.description + layout_.positions,
                                   .chunks = at_.description + layout_.chunks},
                                  shape.rows, on);
  attend(layer, shape);
  normalise(at_.attended, c.query_length(), norm_input::plain, block.attn_sub_norm, c.query_length(),
            shape.rows);
  product(block.attn_output, c.query_length(), at_.residual, d, product_output::add);

  const std::size_t ff = c.feed_forward_length;
  normalise(at_.residual, d, norm_input::plain, block.ffn_norm, d, shape.rows);
  product(block.gate_up, d, at_.gate_up, 2 * ff, product_output::store);
  const auto gate =
      c.activation == ffn_activation::squared_relu ? norm_input::squared_relu_gate : norm_input::silu_gate;
  normalise(at_.gate_up, 2 * ff, gate, block.ffn_sub_norm, ff, shape.rows);
  product(block.down, ff, at_.residual, d, product_output::add);
}

void cuda_pass::normalise(const float* x, std::size_t x_stride, norm_input input, const float* weight,
                          std::size_t cols, std::size_t count) {
  kernels::cuda::normalise({.x = x,
                            .x_stride = x_stride,
                            .input = input,
                            .weight = weight,
                            .epsilon = config_.rms_epsilon,
                            .cols = cols,
                            .out = activations_of(cols),
                            .failed = at_.results},
                           count, stream_.handle());
}

/// In as many launches as the scratch for scores asks for.
void cuda_pass::attend(std::size_t layer, const step_shape& shape) {
  const auto most = tiles_per_launch(shape, score_floats_);
  const auto* const tiles =
      reinterpret_cast<const kernels::cuda::attention_tile*>(at_.description + layout_.tiles);
  for (std::size_t first = 0; first < shape.tiles; first += most) {
    kernels::cuda::attend({.qkv = qkv(),
                           .kv = kv(),
                           .layer = layer,
                           .scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim)),
                           .tiles = tiles + first,
                           .tile_count = std::min(most, shape.tiles - first),
                           .size = shape.tile,
                           .most_blocks = shape.most_blocks,
                           .scores = at_.scores,
                           .out = at_.attended},
                          stream_.handle());
  }
}

void cuda_pass::launch_head(const step_shape& shape) {
  const std::size_t d = config_.embedding_length;
  const std::size_t vocabulary = config_.vocabulary_size;
  auto* const on = stream_.handle();
  kernels::cuda::normalise({.x = at_.residual,
                            .x_stride = d,
                            .rows = at_.description + layout_.logits_rows,
                            .weight = weights_.output_norm,
                            .epsilon = config_.rms_epsilon,
                            .cols = d,
                            .out = activations_of(d),
                            .normed = at_.head_floats,
                            .failed = at_.results},
                           shape.logits_rows, on);
  if (head_format_ == kernels::head_matrix::format::int8)
    kernels::cuda::multiply(weights_.head_int8, weight_format::int8, activations_of(d), shape.logits_rows,
                            at_.logits, vocabulary, product_output::store, on);
  else
    kernels::cuda::multiply_f16(weights_.head_f16, vocabulary, d, at_.head_floats, d, shape.logits_rows,
                                at_.logits, vocabulary, on);
  auto* const choices = reinterpret_cast<choice*>(at_.results + choices_at(limits_));
  if (shape.selects)
    kernels::cuda::choose_best(at_.logits, vocabulary, vocabulary, shape.logits_rows, at_.selection, choices,
                               on);
  else
    kernels::cuda::choose_greatest(at_.logits, vocabulary, vocabulary, shape.logits_rows, choices, on);
}

/// Leaves everything on the device to the end of the process: giving it back would wait for ever on a kernel
/// that hangs, and fails on a lost context.
void cuda_pass::abandon() noexcept {
  memory_.abandon();
  description_.abandon();
  results_.abandon();
  logits_.abandon();
  for (auto& [key, graph] : graphs_)
    if (graph) graph->abandon();
  stream_.abandon();
}

}  // namespace bitnet::engine::cuda
