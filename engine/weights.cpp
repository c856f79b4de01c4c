#include "engine/weights.hpp"

#include "engine/dequantize.hpp"
#include "engine/embedding.hpp"
#include "engine/gguf.hpp"
#include "engine/head_screening.hpp"
#include "engine/linear_weights.hpp"
#include "engine/load_session.hpp"
#include "engine/system_memory.hpp"
#include "kernels/team.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <unordered_set>
#include <utility>

namespace bitnet::engine {

namespace {

using kernels::head_matrix;
using kernels::ternary_matrix;

constexpr std::uint64_t rounded_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

std::uint64_t packed_bytes(std::uint64_t rows, std::uint64_t cols) {
  return ternary_matrix::packed_bytes(rows, cols);
}

/// Takes tensors from a file by name, checks them, and knows at the end which were not taken.
class weights_loader {
 public:
  weights_loader(const gguf_file& file, const model_config& config, load_session& session)
      : file_(file), config_(config), session_(session) {}

  /// Every tensor must have a place in the model; before any work, so that a wrong file is refused at once.
  result<void> check_tensors() {
    expect_vectors_and_matrices();
    if (failure_) return tl::unexpected(*failure_);
    for (const gguf_tensor& tensor : file_.tensors()) {
      if (taken_.contains(tensor.name) || is_identity_rope_factors(tensor)) continue;
      return fail(error_code::unsupported_model,
                  fmt::format("cannot run {}: tensor {} has no place in the architecture {}",
                              in_quotes(file_.path().native()), in_quotes(tensor.name),
                              in_quotes(config_.architecture)));
    }
    return {};
  }

  result<void> load(model_weights& weights, head_matrix::format format) {
    const gguf_tensor& embedding = *file_.find_tensor("token_embd.weight");
    return load_embedding(session_, embedding, !config_.tied_embeddings)
        .map([&](auto table) { weights.embedding = std::move(table); })
        .and_then([&] {
          const gguf_tensor* output = file_.find_tensor("output.weight");
          if (output != nullptr) return load_head(session_, *output, format);
          return head_from_embedding(session_, embedding, *weights.embedding, format);
        })
        .map([&](head_matrix head) { weights.head = std::move(head); })
        .and_then([&] { return load_vector("output_norm.weight", weights.output_norm); })
        .and_then([&] { return load_blocks(weights.blocks); });
  }

 private:
  static std::string block_name(std::uint32_t block, std::string_view part,
                                std::string_view kind = "weight") {
    return fmt::format("blk.{}.{}.{}", block, part, kind);
  }

  void expect_vectors_and_matrices() {
    const std::uint64_t embedding = config_.embedding_length;
    expect("token_embd.weight", {embedding, config_.vocabulary_size});
    if (!config_.tied_embeddings) expect("output.weight", {embedding, config_.vocabulary_size});
    expect("output_norm.weight", {embedding});
    for (std::uint32_t b = 0; b < config_.block_count; ++b) {
      expect(block_name(b, "attn_norm"), {embedding});
      expect_linear(b, "attn_q", config_.query_length(), embedding);
      expect_linear(b, "attn_k", config_.kv_length(), embedding);
      expect_linear(b, "attn_v", config_.kv_length(), embedding);
      expect_linear(b, "attn_output", embedding, config_.query_length());
      expect(block_name(b, "ffn_norm"), {embedding});
      expect_linear(b, "ffn_gate", config_.feed_forward_length, embedding);
      expect_linear(b, "ffn_up", config_.feed_forward_length, embedding);
      expect_linear(b, "ffn_down", embedding, config_.feed_forward_length);
      if (config_.has_sub_norms) {
        expect(block_name(b, "attn_sub_norm"), {config_.query_length()});
        expect(block_name(b, "ffn_sub_norm"), {config_.feed_forward_length});
      }
    }
  }

  void expect(const std::string& name, const std::vector<std::uint64_t>& shape) {
    if (failure_) return;
    const gguf_tensor* tensor = file_.find_tensor(name);
    if (tensor == nullptr) {
      failure_ = error{error_code::file_malformed,
                       fmt::format("cannot run {}: tensor {} is missing; convert it again",
                                   in_quotes(file_.path().native()), in_quotes(name))};
    } else if (tensor->shape != shape) {
      failure_ = error{error_code::file_malformed,
                       fmt::format("tensor {} has the shape [{}], but the metadata asks for [{}]",
                                   in_quotes(name), fmt::join(tensor->shape, ", "), fmt::join(shape, ", "))};
    } else if (!known_tensor_type(tensor->type)) {
      failure_ = error{error_code::unsupported_model,
                       fmt::format("tensor {} is stored as {}, which {}; convert the model to I2_S or TQ2_0",
                                   in_quotes(name), tensor_type_name(tensor->type),
                                   tensor->type == 38 || tensor->type == 39
                                       ? "is laid out for one machine and cannot be read elsewhere"
                                       : "is not supported")};
    } else {
      taken_.insert(tensor->name);
    }
  }

  void expect_linear(std::uint32_t block, std::string_view part, std::uint64_t rows, std::uint64_t cols) {
    expect(block_name(block, part), {cols, rows});
    // llama.cpp's converter may put the scale of weights -1, 0, +1 into a tensor beside them.
    const std::string scale = block_name(block, part, "scale");
    if (file_.find_tensor(scale) != nullptr) expect(scale, {1});
  }

  /// llama.cpp writes rope_freqs for scaled RoPE; all ones mean no scaling.
  bool is_identity_rope_factors(const gguf_tensor& tensor) {
    if (tensor.name != "rope_freqs.weight") return false;
    std::vector<float> factors;
    if (!read_vector(tensor, factors)) return false;
    return std::all_of(factors.begin(), factors.end(), [](float factor) { return factor == 1.0F; });
  }

  /// On all threads, because most of the time goes into the kernel's clearing of fresh memory.
  result<void> allocate_matrices(std::vector<block_weights>& blocks) {
    const std::size_t width = config_.embedding_length;
    const std::size_t hidden = config_.feed_forward_length;
    const std::size_t query = config_.query_length();
    const std::size_t kv = config_.kv_length();
    // One buffer a block, in the order in which a pass reads.
    const std::size_t bytes = packed_bytes(query, width) + 2 * packed_bytes(kv, width) +
                              packed_bytes(width, query) + 2 * packed_bytes(hidden, width) +
                              packed_bytes(width, hidden);
    return session_.parallel(blocks.size(), [&](load_scratch&, std::size_t b) -> result<void> {
      kernels::weight_arena arena(bytes);
      blocks[b].attn_q = ternary_matrix(query, width, 1.0F, arena);
      blocks[b].attn_k = ternary_matrix(kv, width, 1.0F, arena);
      blocks[b].attn_v = ternary_matrix(kv, width, 1.0F, arena);
      blocks[b].attn_output = ternary_matrix(width, query, 1.0F, arena);
      blocks[b].ffn_gate = ternary_matrix(hidden, width, 1.0F, arena);
      blocks[b].ffn_up = ternary_matrix(hidden, width, 1.0F, arena);
      blocks[b].ffn_down = ternary_matrix(width, hidden, 1.0F, arena);
      return {};
    });
  }

  result<void> load_blocks(std::vector<block_weights>& blocks) {
    blocks.resize(config_.block_count);
    if (auto done = allocate_matrices(blocks); !done) return done;
    for (std::uint32_t b = 0; b < config_.block_count; ++b) {
      block_weights& block = blocks[b];
      auto done = load_vector(block_name(b, "attn_norm"), block.attn_norm)
                      .and_then([&] { return load_matrix(b, "attn_q", block.attn_q); })
                      .and_then([&] { return load_matrix(b, "attn_k", block.attn_k); })
                      .and_then([&] { return load_matrix(b, "attn_v", block.attn_v); })
                      .and_then([&] { return load_matrix(b, "attn_output", block.attn_output); })
                      .and_then([&] { return load_vector(block_name(b, "ffn_norm"), block.ffn_norm); })
                      .and_then([&] { return load_matrix(b, "ffn_gate", block.ffn_gate); })
                      .and_then([&] { return load_matrix(b, "ffn_up", block.ffn_up); })
                      .and_then([&] { return load_matrix(b, "ffn_down", block.ffn_down); });
      if (done && config_.has_sub_norms) {
        done = load_vector(block_name(b, "attn_sub_norm"), block.attn_sub_norm).and_then([&] {
          return load_vector(block_name(b, "ffn_sub_norm"), block.ffn_sub_norm);
        });
      }
      if (!done) return done;
    }
    return {};
  }

  result<void> load_matrix(std::uint32_t block, std::string_view part, ternary_matrix& out) {
    auto done = load_linear(session_, *file_.find_tensor(block_name(block, part)), out);
    const gguf_tensor* factor = file_.find_tensor(block_name(block, part, "scale"));
    if (!done || factor == nullptr) return done;
    std::vector<float> scale;
    done = read_vector(*factor, scale);
    if (done) out.set_scale(out.scale() * scale.front());
    return done;
  }

  result<void> load_vector(const std::string& name, std::vector<float>& out) {
    return read_vector(*file_.find_tensor(name), out);
  }

  result<void> read_vector(const gguf_tensor& tensor, std::vector<float>& out) {
    const auto type = known_tensor_type(tensor.type);
    if (!type || !is_dequantizable(*type)) {
      return fail(error_code::unsupported_model,
                  fmt::format("tensor {} is stored as {}; F32 is expected", in_quotes(tensor.name),
                              tensor_type_name(tensor.type)));
    }
    std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.size_bytes));
    if (auto done = file_.read(tensor, 0, bytes); !done) return done;
    out.resize(static_cast<std::size_t>(tensor.element_count()));
    dequantize(*type, bytes.data(), out.size(), out.data());
    if (!std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); })) {
      return fail(
          error_code::file_malformed,
          fmt::format("tensor {} holds a value that is not finite; download or convert the file again",
                      in_quotes(tensor.name)));
    }
    session_.add_progress(bytes.size());
    return {};
  }

  const gguf_file& file_;
  const model_config& config_;
  load_session& session_;
  std::unordered_set<std::string_view> taken_;
  std::optional<error> failure_;
};

std::uint64_t total_tensor_bytes(const gguf_file& file) {
  std::uint64_t total = 0;
  for (const gguf_tensor& tensor : file.tensors()) total += tensor.size_bytes;
  return total;
}

result<void> check_memory(const gguf_file& file, const model_config& config, const load_options& options) {
  std::uint64_t needed = weights_memory_bytes(config, *file.find_tensor("token_embd.weight"), options.head);
  if (options.decode == decode_format::base3 && kernels::base3_matmul_for(options.isa) != nullptr)
    needed += decode_copy_bytes(config);
  if (options.screen_head) needed += head_screen_bytes(config);
  const std::uint64_t available =
      options.memory_limit_bytes != 0 ? options.memory_limit_bytes : available_memory_bytes();
  if (needed <= available) return {};
  constexpr std::uint64_t mib = 1U << 20;
  return fail(
      error_code::out_of_memory,
      fmt::format("{} needs {} MiB of memory for its weights, but {} MiB are available; free memory, raise "
                  "the memory limit or take a smaller model",
                  in_quotes(file.path().native()), (needed + mib - 1) / mib, available / mib));
}

result<std::unique_ptr<model_weights>> load_checked(std::shared_ptr<const gguf_file> file,
                                                    const load_options& options) {
  auto config = read_model_config(*file);
  if (!config) return tl::unexpected(std::move(config.error()));
  auto weights = std::make_unique<model_weights>();
  weights->config = std::move(*config);
  const std::size_t threads = options.threads != 0 ? options.threads : kernels::usable_cpu_count();
  load_session session(*file, threads, total_tensor_bytes(*file), options.progress, options.cancelled);
  weights_loader loader(*file, weights->config, session);
  auto done = loader.check_tensors()
                  .and_then([&] { return check_memory(*file, weights->config, options); })
                  .and_then([&] { return loader.load(*weights, options.head); });
  if (!done) return tl::unexpected(std::move(done.error()));
  if (options.screen_head) {
    weights->screen = make_head_screen(weights->head, threads);
    weights->screen_candidates = options.screen_candidates;
  }
  weights->decode_blocks = make_decode_blocks(weights->config, weights->blocks, options);
  weights->file = std::move(file);
  if (options.warn) {
    for (const std::string& line : session.warnings()) options.warn(line);
  }
  if (options.progress) options.progress(1.0F);
  return weights;
}

}  // namespace

namespace {

/// Calls `visit` with every linear matrix of a block_weights or decode_block.
template <class Block, class Visitor>
void for_each_matrix(const Block& block, const Visitor& visit) {
  for (const auto* matrix : {&block.attn_q, &block.attn_k, &block.attn_v, &block.attn_output, &block.ffn_gate,
                             &block.ffn_up, &block.ffn_down})
    visit(*matrix);
}

}  // namespace

std::size_t model_weights::bytes_read_per_step(std::size_t sequences) const noexcept {
  std::size_t total = screen ? screen->code_bytes().size() +
                                   sequences * std::min(screen_candidates, head.rows()) * head.padded_cols()
                             : head.bytes().size();
  const auto add = [&total](const auto& matrix) { total += matrix.bytes().size(); };
  if (sequences <= kernels::base3_max_tokens && !decode_blocks.empty())
    for (const auto& block : decode_blocks) for_each_matrix(block, add);
  else
    for (const auto& block : blocks) for_each_matrix(block, add);
  return total;
}

std::uint64_t model_weights::linear_macs_per_token() const noexcept {
  std::uint64_t total = 0;
  for (const auto& block : blocks)
    for_each_matrix(block, [&total](const auto& matrix) { total += matrix.rows() * matrix.cols(); });
  return total;
}

std::uint64_t weights_memory_bytes(const model_config& config, const gguf_tensor& embedding,
                                   head_matrix::format head) noexcept {
  const std::uint64_t width = config.embedding_length;
  const std::uint64_t hidden = config.feed_forward_length;
  const std::uint64_t block = packed_bytes(config.query_length(), width) +
                              2 * packed_bytes(config.kv_length(), width) +
                              packed_bytes(width, config.query_length()) + 2 * packed_bytes(hidden, width) +
                              packed_bytes(width, hidden) + 4 * (3 * width + hidden);
  const std::uint64_t head_value_bytes = head == head_matrix::format::f16 ? 2 : 1;
  return config.block_count * block + embedding.size_bytes +
         config.vocabulary_size * (head_value_bytes * rounded_up(width, ternary_matrix::column_padding) + 4);
}

std::uint64_t head_screen_bytes(const model_config& config) noexcept {
  return kernels::head_screen::memory_bytes(config.vocabulary_size, config.embedding_length);
}

result<std::unique_ptr<model_weights>> load_weights(std::shared_ptr<const gguf_file> file,
                                                    const load_options& options) {
  const std::string name = in_quotes(file->path().native());
  try {
    return load_checked(std::move(file), options);
  } catch (const std::bad_alloc&) {
    return fail(
        error_code::out_of_memory,
        fmt::format("there is not enough memory to load {}; free memory or take a smaller model", name));
  }
}

}  // namespace bitnet::engine
