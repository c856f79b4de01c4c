// bitnet-make-synthetic-model: writes a model file with random weights, for benchmarks and tests.

#include "tests/support/synthetic_model.hpp"
#include "tests/support/synthetic_vocabulary.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

using bitnet::engine::tensor_type;
using bitnet::tests::synthetic_model;

struct bad_option : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr std::string_view usage = R"(bitnet-make-synthetic-model --output=FILE [OPTION ...]

Writes a GGUF file with the shape of a real ternary model and random weights.

  --output=FILE        where to write
  --shape=NAME         {} (demo)
  --weights=TYPE       of linear layers: i2_s, tq1_0, tq2_0, f32, f16 or bf16 (i2_s)
  --embedding=TYPE     of token_embd and output: f32, f16, bf16, q8_0, q4_k or q6_k (f16)
  --architecture=NAME  general.architecture (the shape's)
  --blocks=N           transformer blocks (the shape's)
  --vocabulary=N       tokens, at least {} (the shape's)
  --untied             write a head of its own
  --seed=N             of the random numbers (1)
)";

std::optional<tensor_type> parse_type(std::string_view name) {
  constexpr tensor_type types[] = {tensor_type::f32,  tensor_type::f16,   tensor_type::bf16,
                                   tensor_type::q8_0, tensor_type::q4_k,  tensor_type::q6_k,
                                   tensor_type::i2_s, tensor_type::tq1_0, tensor_type::tq2_0};
  std::string upper(name);
  for (char& c : upper) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  for (const tensor_type type : types) {
    if (bitnet::engine::tensor_type_name(type) == upper) return type;
  }
  return std::nullopt;
}

template <class T>
T parse_number(std::string_view option, std::string_view text) {
  T value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size())
    throw bad_option(fmt::format("{} needs a number, not \"{}\"", option, text));
  return value;
}

tensor_type parse_type_option(std::string_view option, std::string_view text, bool ternary_too) {
  const auto type = parse_type(text);
  const bool quantized =
      type && (*type == tensor_type::q8_0 || *type == tensor_type::q4_k || *type == tensor_type::q6_k);
  if (!type || (ternary_too ? quantized : bitnet::engine::is_ternary(*type)))
    throw bad_option(fmt::format("{} cannot be \"{}\"", option, text));
  return *type;
}

struct settings {
  synthetic_model model;
  std::string output;
  bool help = false;
};

settings parse(int argc, char** argv) {
  settings result;
  result.model = *bitnet::tests::synthetic_shape("demo");
  // The shape first: other options change it, in whatever order they come.
  for (const bool shape_pass : {true, false}) {
    for (int i = 1; i < argc; ++i) {
      const std::string_view argument = argv[i];
      const std::size_t equals = argument.find('=');
      const std::string_view option = argument.substr(0, equals);
      const std::string_view value =
          equals == argument.npos ? std::string_view() : argument.substr(equals + 1);
      if (option == "--shape") {
        const auto shape = bitnet::tests::synthetic_shape(value);
        if (!shape) throw bad_option(fmt::format("--shape cannot be \"{}\"", value));
        if (shape_pass) result.model = *shape;
      } else if (shape_pass) {
        continue;
      } else if (option == "--output") {
        result.output = value;
      } else if (option == "--weights") {
        result.model.linear_type = parse_type_option(option, value, true);
      } else if (option == "--embedding") {
        result.model.embedding_type = parse_type_option(option, value, false);
      } else if (option == "--architecture") {
        result.model.architecture = value;
      } else if (option == "--blocks") {
        result.model.block_count = parse_number<std::uint32_t>(option, value);
      } else if (option == "--vocabulary") {
        result.model.vocabulary_size = parse_number<std::uint32_t>(option, value);
      } else if (option == "--seed") {
        result.model.seed = parse_number<std::uint64_t>(option, value);
      } else if (argument == "--untied") {
        result.model.tied_embeddings = false;
      } else if (argument == "--help") {
        result.help = true;
      } else {
        throw bad_option(fmt::format("unknown option \"{}\"", argument));
      }
    }
  }
  if (result.output.empty() && !result.help) throw bad_option("--output=FILE is missing");
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const settings chosen = parse(argc, argv);
    if (chosen.help) {
      fmt::print(usage, fmt::join(bitnet::tests::synthetic_shape_names(), ", "),
                 bitnet::tests::least_vocabulary_size);
      return 0;
    }
    bitnet::tests::write_synthetic_model(chosen.model, chosen.output);
    return 0;
  } catch (const bad_option& e) {
    fmt::print(stderr, "bitnet-make-synthetic-model: {}; see --help\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bitnet-make-synthetic-model: {}\n", e.what());
    return 1;
  }
}
