#include "engine/model_config.hpp"

#include "engine/gguf.hpp"
#include "engine/tokenizer.hpp"
#include "kernels/matrix.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

namespace bitnet::engine {

namespace {

// The first is what the kernels take; the others are generous and keep products in 64 bits.
constexpr std::uint64_t largest_width = kernels::max_matrix_cols;
constexpr std::uint64_t largest_vocabulary = 1U << 24;
constexpr std::uint64_t largest_context = 1U << 24;
constexpr std::uint64_t most_blocks = 4096;
constexpr std::uint64_t largest_head_dim = 256;  // kernels::attention_args

/// Reads one architecture's keys; remembers the first error, so that a list of reads needs one check.
class config_reader {
 public:
  config_reader(const gguf_file& file, std::string_view architecture)
      : file_(file), architecture_(architecture) {}

  const std::optional<error>& failure() const noexcept { return failure_; }

  std::uint32_t required(std::string_view name, std::uint64_t most) {
    const auto value = optional(name, most);
    if (!value) refuse(key(name), "is missing");
    return value.value_or(1);
  }

  /// An array with the same value for every block counts as that value.
  std::optional<std::uint32_t> optional(std::string_view name, std::uint64_t most) {
    const std::string full = key(name);
    if (file_.find(full) == nullptr) return std::nullopt;
    auto value = file_.unsigned_integer(full);
    if (const auto* list = file_.integers(full); list != nullptr && !list->empty()) {
      if (std::adjacent_find(list->begin(), list->end(), std::not_equal_to<>()) != list->end()) {
        refuse(full, "differs from block to block, which is not supported", error_code::unsupported_model);
        return 1;
      }
      if (list->front() >= 0) value = static_cast<std::uint64_t>(list->front());
    }
    if (!value) {
      refuse(full, "is not an unsigned integer");
      return 1;
    }
    if (*value == 0 || *value > most) {
      refuse(full, fmt::format("is {}; 1 to {} are supported", *value, most));
      return 1;
    }
    return static_cast<std::uint32_t>(*value);
  }

  double positive(std::string_view name, std::optional<double> fallback, double most) {
    const std::string full = key(name);
    if (file_.find(full) == nullptr && fallback) return *fallback;
    const auto value = file_.number(full);
    if (!value) {
      refuse(full, file_.find(full) == nullptr ? "is missing" : "is not a number");
      return 1.0;
    }
    if (!(*value > 0.0 && *value <= most)) {
      refuse(full, fmt::format("is {}; it must be above 0 and at most {}", *value, most));
      return 1.0;
    }
    return *value;
  }

  void refuse(std::string_view full_key, std::string_view reason,
              error_code code = error_code::file_malformed) {
    if (failure_) return;
    failure_ = error{code, fmt::format("cannot run {}: the metadata key {} {}",
                                       in_quotes(file_.path().native()), in_quotes(full_key), reason)};
  }

  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_, name); }

 private:
  const gguf_file& file_;
  std::string_view architecture_;
  std::optional<error> failure_;
};

struct architecture_traits {
  std::string_view name;
  ffn_activation activation;
  kernels::rope_kind rope;
  bool sub_norms;
};

constexpr architecture_traits architectures[] = {
    {"bitnet", ffn_activation::silu, kernels::rope_kind::neox, true},
    {"bitnet-b1.58", ffn_activation::squared_relu, kernels::rope_kind::neox, true},
    {"bitnet-25", ffn_activation::squared_relu, kernels::rope_kind::neox, true},
    {"llama", ffn_activation::silu, kernels::rope_kind::interleaved, false},
};

/// What other models of these architectures may have and we would silently compute wrongly.
void refuse_what_we_do_not_compute(const gguf_file& file, config_reader& read) {
  const std::string scaling = read.key("rope.scaling.type");
  if (const auto kind = file.string(scaling); kind && *kind != "none" && !kind->empty())
    read.refuse(scaling, fmt::format("is {}; only unscaled RoPE is supported", in_quotes(*kind)),
                error_code::unsupported_model);
  const std::string factor = read.key("rope.scaling.factor");
  if (const auto value = file.number(factor); value && *value != 1.0 && *value != 0.0)
    read.refuse(factor, fmt::format("is {}; only unscaled RoPE is supported", *value),
                error_code::unsupported_model);
  for (const std::string_view name : {"expert_count", "attention.sliding_window"}) {
    const std::string full = read.key(name);
    if (const auto value = file.unsigned_integer(full); value && *value != 0)
      read.refuse(full, fmt::format("is {}, which is not supported", *value), error_code::unsupported_model);
  }
}

void read_attention_shape(config_reader& read, model_config& config) {
  config.head_count = read.required("attention.head_count", largest_width);
  config.kv_head_count = read.optional("attention.head_count_kv", largest_width).value_or(config.head_count);
  const auto key_length = read.optional("attention.key_length", largest_head_dim);
  const auto value_length = read.optional("attention.value_length", largest_head_dim);
  const auto rotated = read.optional("rope.dimension_count", largest_width);
  if (read.failure()) return;

  if (key_length) {
    config.head_dim = *key_length;
  } else if (config.embedding_length % config.head_count != 0) {
    read.refuse(read.key("attention.head_count"),
                fmt::format("is {}, which does not divide the embedding length {}", config.head_count,
                            config.embedding_length));
  } else {
    config.head_dim = config.embedding_length / config.head_count;
  }
  if (read.failure()) return;

  const std::string head_key = read.key(key_length ? "attention.key_length" : "attention.head_count");
  if (config.head_dim % 2 != 0 || config.head_dim > largest_head_dim) {
    read.refuse(head_key,
                fmt::format("makes heads of {} values; even numbers up to {} are supported", config.head_dim,
                            largest_head_dim),
                error_code::unsupported_model);
  }
  if (value_length && *value_length != config.head_dim) {
    read.refuse(
        read.key("attention.value_length"),
        fmt::format("is {}, but keys have {}; equal lengths are supported", *value_length, config.head_dim),
        error_code::unsupported_model);
  }
  if (rotated && *rotated != config.head_dim) {
    read.refuse(read.key("rope.dimension_count"),
                fmt::format("is {}, but a head has {} values; only whole heads are rotated", *rotated,
                            config.head_dim),
                error_code::unsupported_model);
  }
  if (config.head_count % config.kv_head_count != 0) {
    read.refuse(read.key("attention.head_count_kv"),
                fmt::format("is {}, which does not divide the {} query heads", config.kv_head_count,
                            config.head_count));
  }
  if (std::uint64_t{config.head_count} * config.head_dim > largest_width) {
    read.refuse(head_key, fmt::format("makes queries of more than {} values", largest_width));
  }
}

/// The key is newer than some files: there, the tokenizer or the embedding tells.
std::uint32_t read_vocabulary_size(const gguf_file& file, config_reader& read) {
  if (const auto size = read.optional("vocab_size", largest_vocabulary)) return *size;
  if (const auto* tokens = file.strings("tokenizer.ggml.tokens");
      tokens != nullptr && !tokens->empty() && tokens->size() <= largest_vocabulary) {
    return static_cast<std::uint32_t>(tokens->size());
  }
  if (const gguf_tensor* embedding = file.find_tensor("token_embd.weight");
      embedding != nullptr && embedding->rows() <= largest_vocabulary) {
    return static_cast<std::uint32_t>(embedding->rows());
  }
  read.refuse(read.key("vocab_size"), "is missing");
  return 1;
}

}  // namespace

result<model_config> read_model_config(const gguf_file& file) {
  const auto architecture = file.string("general.architecture");
  if (!architecture) {
    return fail(error_code::file_malformed,
                fmt::format("cannot run {}: the metadata key \"general.architecture\" is missing",
                            in_quotes(file.path().native())));
  }
  const auto* traits = std::find_if(std::begin(architectures), std::end(architectures),
                                    [&](const architecture_traits& t) { return t.name == *architecture; });
  if (traits == std::end(architectures)) {
    return fail(
        error_code::unsupported_model,
        fmt::format("cannot run {}: its architecture is {}; bitnet, bitnet-b1.58, bitnet-25 and llama are "
                    "supported",
                    in_quotes(file.path().native()), in_quotes(*architecture)));
  }

  config_reader read(file, *architecture);
  refuse_what_we_do_not_compute(file, read);
  model_config config;
  config.architecture = std::string(*architecture);
  const auto name = file.string("general.name");
  // Whatever bytes a file has there, what we show is UTF-8.
  utf8_stream readable;
  config.name = readable.push(name && !name->empty() ? std::string(*name) : file.path().stem().string());
  config.name += readable.finish();
  config.activation = traits->activation;
  config.rope = traits->rope;
  config.has_sub_norms = traits->sub_norms;
  config.tied_embeddings = file.find_tensor("output.weight") == nullptr;
  config.context_length = read.required("context_length", largest_context);
  config.embedding_length = read.required("embedding_length", largest_width);
  config.block_count = read.required("block_count", most_blocks);
  config.feed_forward_length = read.required("feed_forward_length", largest_width);
  config.rms_epsilon =
      static_cast<float>(read.positive("attention.layer_norm_rms_epsilon", std::nullopt, 1.0));
  config.rope_theta = static_cast<float>(read.positive("rope.freq_base", 10000.0, 1e12));
  config.vocabulary_size = read_vocabulary_size(file, read);
  read_attention_shape(read, config);
  if (read.failure()) return tl::unexpected(*read.failure());
  return config;
}

}  // namespace bitnet::engine
