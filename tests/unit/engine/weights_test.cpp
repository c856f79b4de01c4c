#include "engine/weights.hpp"

#include "engine/gguf.hpp"
#include "tests/support/memory_file.hpp"
#include "tests/support/synthetic_model.hpp"
#include "tests/support/tensor_encoders.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using namespace bitnet::engine;
using bitnet::kernels::ternary_matrix;
using bitnet::tests::gguf_writer;
using bitnet::tests::memory_file;
using bitnet::tests::synthetic_model;

namespace {

using weights_result = result<std::unique_ptr<model_weights>>;

weights_result load(const gguf_writer& writer, const load_options& options = {}) {
  const memory_file file(writer.bytes());
  const auto opened = gguf_file::open(file.path());
  BOOST_REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : opened.error().message));
  return load_weights(*opened, options);
}

std::unique_ptr<model_weights> loaded(const gguf_writer& writer, const load_options& options = {}) {
  auto weights = load(writer, options);
  BOOST_REQUIRE_MESSAGE(weights.has_value(), (weights ? "" : weights.error().message));
  return std::move(*weights);
}

void check_refused(const gguf_writer& writer, std::string_view part,
                   error_code code = error_code::file_malformed) {
  const auto weights = load(writer);
  BOOST_REQUIRE_MESSAGE(!weights, "was not refused: expected " << part);
  BOOST_TEST((weights.error().message.find(part) != std::string::npos),
             weights.error().message << " lacks " << part);
  BOOST_TEST((weights.error().code == code), weights.error().message);
}

std::vector<std::pair<std::string, const ternary_matrix*>> matrices(const model_weights& weights) {
  std::vector<std::pair<std::string, const ternary_matrix*>> all;
  for (std::size_t b = 0; b < weights.blocks.size(); ++b) {
    const block_weights& block = weights.blocks[b];
    const std::string prefix = "blk." + std::to_string(b) + ".";
    all.emplace_back(prefix + "attn_q.weight", &block.attn_q);
    all.emplace_back(prefix + "attn_k.weight", &block.attn_k);
    all.emplace_back(prefix + "attn_v.weight", &block.attn_v);
    all.emplace_back(prefix + "attn_output.weight", &block.attn_output);
    all.emplace_back(prefix + "ffn_gate.weight", &block.ffn_gate);
    all.emplace_back(prefix + "ffn_up.weight", &block.ffn_up);
    all.emplace_back(prefix + "ffn_down.weight", &block.ffn_down);
  }
  return all;
}

bool same_packed(const ternary_matrix& a, const ternary_matrix& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && a.scale() == b.scale() &&
         std::ranges::equal(a.bytes(), b.bytes());
}

/// Every weight is the generator's, and so is the scale.
void check_matrices(const model_weights& weights, std::uint64_t seed) {
  for (const auto& [name, matrix] : matrices(weights)) {
    BOOST_TEST_CONTEXT(name) {
      BOOST_TEST(matrix->scale() == bitnet::tests::synthetic_scale(matrix->cols()));
      std::vector<std::int8_t> expected(matrix->cols());
      std::vector<std::int8_t> actual(matrix->cols());
      for (std::size_t row = 0; row < matrix->rows(); ++row) {
        bitnet::tests::synthetic_ternary_row(seed, name, row, expected);
        matrix->unpack_row(row, actual.data());
        BOOST_TEST_REQUIRE((actual == expected), "row " << row);
      }
    }
  }
}

/// Replaces a tensor's data (and type); the offsets of what follows stay, so it must not grow.
void replace(gguf_writer& writer, std::string_view name, tensor_type type, std::string bytes) {
  auto* tensor = writer.find(name);
  BOOST_REQUIRE(tensor != nullptr);
  BOOST_REQUIRE(bytes.size() <= tensor->size_bytes);
  tensor->type = static_cast<std::uint32_t>(type);
  tensor->size_bytes = bytes.size();
  tensor->data = [bytes = std::move(bytes)](const gguf_writer::sink& out) {
    out(std::as_bytes(std::span(bytes)));
  };
}

std::string produced(gguf_writer& writer, std::string_view name) {
  std::string bytes;
  writer.find(name)->data([&](std::span<const std::byte> part) {
    bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
  });
  return bytes;
}

struct load_log {
  std::vector<std::string> lines;
  load_options options() {
    load_options result;
    result.warn = [this](const std::string& line) { lines.push_back(line); };
    return result;
  }
};

synthetic_model with_linear(tensor_type type) {
  synthetic_model shape;
  shape.linear_type = type;
  return shape;
}

constexpr tensor_type linear_types[] = {tensor_type::i2_s, tensor_type::tq1_0, tensor_type::tq2_0,
                                        tensor_type::f32,  tensor_type::f16,   tensor_type::bf16};

}  // namespace

BOOST_AUTO_TEST_SUITE(weights_loading)

BOOST_AUTO_TEST_CASE(all_storage_types_give_identical_packed_matrices) {
  load_log warnings;
  const auto reference = loaded(make_synthetic_model(with_linear(tensor_type::i2_s)), warnings.options());
  check_matrices(*reference, 1);
  for (const tensor_type type : linear_types) {
    const auto weights = loaded(make_synthetic_model(with_linear(type)), warnings.options());
    const auto expected = matrices(*reference);
    const auto actual = matrices(*weights);
    BOOST_REQUIRE(expected.size() == actual.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
      BOOST_TEST(same_packed(*expected[i].second, *actual[i].second), tensor_type_name(type)
                                                                          << " " << expected[i].first);
  }
  BOOST_TEST(warnings.lines.empty());
}

BOOST_AUTO_TEST_CASE(shapes_that_are_no_multiples_of_groups_or_blocks_load) {
  // Like the 3B model's: rows of 8640 weights begin inside a group of 128, and 100 is no multiple of 32.
  synthetic_model shape;
  shape.architecture = "bitnet";
  shape.embedding_length = 800;
  shape.feed_forward_length = 2160;
  shape.head_count = 8;
  shape.kv_head_count = 8;
  for (const tensor_type type : {tensor_type::i2_s, tensor_type::f16}) {
    shape.linear_type = type;
    check_matrices(*loaded(make_synthetic_model(shape)), 1);
  }
  // Columns that are no multiple of 4 either: slices begin inside a byte's group.
  shape.embedding_length = 64;
  shape.feed_forward_length = 1154;
  shape.head_count = 2;
  shape.kv_head_count = 1;
  shape.linear_type = tensor_type::i2_s;
  check_matrices(*loaded(make_synthetic_model(shape)), 1);
}

BOOST_AUTO_TEST_CASE(the_number_of_threads_changes_nothing) {
  synthetic_model shape = with_linear(tensor_type::f32);
  gguf_writer writer = make_synthetic_model(shape);
  // Not ternary, so that a sum over all weights decides.
  std::vector<float> values(512 * 256);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
  replace(writer, "blk.0.ffn_up.weight", tensor_type::f32,
          bitnet::tests::encode_values(tensor_type::f32, values));
  load_options options;
  options.threads = 1;
  const auto reference = loaded(writer, options);
  for (const std::size_t threads : {2U, 3U, 8U}) {
    options.threads = threads;
    const auto weights = loaded(writer, options);
    const auto expected = matrices(*reference);
    const auto actual = matrices(*weights);
    for (std::size_t i = 0; i < expected.size(); ++i)
      BOOST_TEST(same_packed(*expected[i].second, *actual[i].second), expected[i].first);
    BOOST_TEST(std::ranges::equal(reference->head.bytes(), weights->head.bytes()));
  }
}

BOOST_AUTO_TEST_CASE(embedding_rows_and_norms_are_the_files) {
  for (const tensor_type type : {tensor_type::f32, tensor_type::f16, tensor_type::bf16, tensor_type::q8_0,
                                 tensor_type::q4_k, tensor_type::q6_k}) {
    synthetic_model shape;
    shape.embedding_type = type;
    gguf_writer writer = make_synthetic_model(shape);
    const auto weights = loaded(writer);
    const double tolerance = type == tensor_type::q4_k ? 0.06 : 0.02;
    std::vector<float> expected(256);
    std::vector<float> actual(256);
    for (token_id token = 0; token < 512; ++token) {
      bitnet::tests::synthetic_embedding_row(1, "token_embd.weight", token, expected);
      weights->embedding->row(token, actual.data());
      for (std::size_t i = 0; i < 256; ++i)
        BOOST_TEST_REQUIRE(std::fabs(actual[i] - expected[i]) <= tolerance);
    }
    const std::string norm = produced(writer, "blk.1.ffn_sub_norm.weight");
    BOOST_TEST((std::memcmp(norm.data(), weights->blocks[1].ffn_sub_norm.data(), norm.size()) == 0));
    BOOST_TEST(weights->blocks[1].ffn_sub_norm.size() == 512U);
    BOOST_TEST(weights->output_norm.size() == 256U);
  }
}

BOOST_AUTO_TEST_CASE(the_head_is_the_embedding_or_its_own_tensor) {
  using format = bitnet::kernels::head_matrix::format;
  synthetic_model shape;
  const auto tied = loaded(make_synthetic_model(shape));
  shape.tied_embeddings = false;
  gguf_writer writer = make_synthetic_model(shape);
  const auto untied = loaded(writer);
  BOOST_TEST(tied->config.tied_embeddings);
  BOOST_TEST(!untied->config.tied_embeddings);
  BOOST_TEST(!std::ranges::equal(tied->head.bytes(), untied->head.bytes()));
  BOOST_TEST(untied->head.rows() == 512U);
  BOOST_TEST(untied->head.cols() == 256U);
  // The same values in both places give the same head.
  for (const format f : {format::int8, format::f16}) {
    gguf_writer same = make_synthetic_model(shape);
    replace(same, "output.weight", tensor_type::f16, produced(same, "token_embd.weight"));
    load_options options;
    options.head = f;
    const auto copied = loaded(same, options);
    shape.tied_embeddings = true;
    const auto original = loaded(make_synthetic_model(shape), options);
    shape.tied_embeddings = false;
    BOOST_TEST(std::ranges::equal(copied->head.bytes(), original->head.bytes()));
    BOOST_TEST((copied->head.storage_format() == f));
  }
}

BOOST_AUTO_TEST_CASE(llama_files_have_no_sub_norms) {
  synthetic_model shape;
  shape.architecture = "llama";
  shape.tied_embeddings = false;
  shape.head_dim = 96;
  const auto weights = loaded(make_synthetic_model(shape));
  check_matrices(*weights, 1);
  BOOST_TEST(weights->blocks[0].attn_sub_norm.empty());
  BOOST_TEST(weights->blocks[0].ffn_sub_norm.empty());
  BOOST_TEST(weights->blocks[0].attn_q.rows() == 384U);
  BOOST_TEST(weights->blocks[0].attn_output.cols() == 384U);
}

BOOST_AUTO_TEST_CASE(weights_that_are_not_ternary_are_quantised_by_the_reference_rule_and_told) {
  gguf_writer writer = make_synthetic_model(with_linear(tensor_type::f32));
  std::vector<float> values(256 * 256);
  double sum = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 0.03F * std::sin(static_cast<float>(i) * 0.7F);
    sum += std::fabs(static_cast<double>(values[i]));
  }
  replace(writer, "blk.1.attn_q.weight", tensor_type::f32,
          bitnet::tests::encode_values(tensor_type::f32, values));
  load_log warnings;
  const auto weights = loaded(writer, warnings.options());
  BOOST_REQUIRE(warnings.lines.size() == 1U);
  BOOST_TEST((warnings.lines[0].find("1 of the linear weights (the first is \"blk.1.attn_q.weight\")") == 0));

  const ternary_matrix& matrix = weights->blocks[1].attn_q;
  const double mean = sum / static_cast<double>(values.size());
  BOOST_TEST(matrix.scale() == static_cast<float>(mean), boost::test_tools::tolerance(1e-6F));
  std::vector<std::int8_t> row(256);
  int minus = 0;
  for (std::size_t r = 0; r < 256; ++r) {
    matrix.unpack_row(r, row.data());
    for (std::size_t c = 0; c < 256; ++c) {
      const double scaled = static_cast<double>(values[r * 256 + c]) / mean;
      if (std::fabs(std::fabs(scaled) - 0.5) < 1e-4) continue;
      const int expected = scaled > 0.5 ? 1 : scaled < -0.5 ? -1 : 0;
      BOOST_TEST_REQUIRE(static_cast<int>(row[c]) == expected);
      minus += expected == -1 ? 1 : 0;
    }
  }
  BOOST_TEST(minus > 1000);
}

BOOST_AUTO_TEST_CASE(tq_groups_with_different_scales_are_quantised_and_told) {
  for (const tensor_type type : {tensor_type::tq1_0, tensor_type::tq2_0}) {
    gguf_writer writer = make_synthetic_model(with_linear(type));
    const std::size_t group = layout_of(type).bytes;
    std::string bytes = produced(writer, "blk.0.ffn_down.weight");
    const std::string other = bitnet::tests::encode_ternary(type, std::vector<std::int8_t>(256, 1), 8.0F);
    bytes.replace(bytes.size() - group, group, other);
    replace(writer, "blk.0.ffn_down.weight", type, bytes);
    load_log warnings;
    const auto weights = loaded(writer, warnings.options());
    BOOST_REQUIRE(warnings.lines.size() == 1U);
    BOOST_TEST((warnings.lines[0].find("blk.0.ffn_down.weight") != std::string::npos));
    // The last row is half large values, half small ones.
    std::vector<std::int8_t> row(512);
    const ternary_matrix& matrix = weights->blocks[0].ffn_down;
    matrix.unpack_row(matrix.rows() - 1, row.data());
    BOOST_TEST(std::count(row.begin() + 256, row.end(), 1) == 256);
    BOOST_TEST(matrix.scale() != bitnet::tests::synthetic_scale(512));
  }
}

BOOST_AUTO_TEST_CASE(tq_groups_of_zeros_may_have_any_scale) {
  for (const tensor_type type : {tensor_type::tq1_0, tensor_type::tq2_0}) {
    gguf_writer writer = make_synthetic_model(with_linear(type));
    const std::size_t group = layout_of(type).bytes;
    std::string bytes = produced(writer, "blk.0.ffn_down.weight");
    const std::vector<std::int8_t> zeros(256, 0);
    const std::vector<std::int8_t> ones(256, 1);
    // All zero with a scale of its own, and ones that a scale of zero makes zero.
    bytes.replace(0, group, bitnet::tests::encode_ternary(type, zeros, 8.0F));
    bytes.replace(group, group, bitnet::tests::encode_ternary(type, ones, 0.0F));
    replace(writer, "blk.0.ffn_down.weight", type, bytes);
    load_log warnings;
    const auto weights = loaded(writer, warnings.options());
    BOOST_TEST(warnings.lines.empty());
    const ternary_matrix& matrix = weights->blocks[0].ffn_down;
    BOOST_TEST(matrix.scale() == bitnet::tests::synthetic_scale(512));
    std::vector<std::int8_t> row(512);
    matrix.unpack_row(0, row.data());
    BOOST_TEST(std::count(row.begin(), row.end(), 0) == 512);
    std::vector<std::int8_t> expected(512);
    bitnet::tests::synthetic_ternary_row(1, "blk.0.ffn_down.weight", 1, expected);
    matrix.unpack_row(1, row.data());
    BOOST_TEST(row == expected);
  }
}

BOOST_AUTO_TEST_CASE(scale_tensors_beside_the_weights_multiply) {
  gguf_writer writer = make_synthetic_model(synthetic_model());
  const float factor = 0.25F;
  writer.add_tensor("blk.0.attn_q.scale", 0, {1}, std::string(reinterpret_cast<const char*>(&factor), 4));
  const auto weights = loaded(writer);
  BOOST_TEST(weights->blocks[0].attn_q.scale() == 0.25F * bitnet::tests::synthetic_scale(256));
  BOOST_TEST(weights->blocks[1].attn_q.scale() == bitnet::tests::synthetic_scale(256));
}

BOOST_AUTO_TEST_CASE(refuses_i2_s_that_holds_code_3_or_a_wrong_scale) {
  for (const std::size_t place : {std::size_t{0}, std::size_t{512 * 256 / 4 - 1}}) {
    gguf_writer writer = make_synthetic_model(synthetic_model());
    std::string bytes = produced(writer, "blk.1.ffn_gate.weight");
    bytes[place] = static_cast<char>(bytes[place] | 0x0C);
    replace(writer, "blk.1.ffn_gate.weight", tensor_type::i2_s, bytes);
    check_refused(writer, "\"blk.1.ffn_gate.weight\" (I2_S) holds the code 3");
  }
  for (const float scale :
       {-1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    gguf_writer writer = make_synthetic_model(synthetic_model());
    std::string bytes = produced(writer, "blk.1.ffn_gate.weight");
    std::memcpy(bytes.data() + bytes.size() - 32, &scale, 4);
    replace(writer, "blk.1.ffn_gate.weight", tensor_type::i2_s, bytes);
    check_refused(writer, "\"blk.1.ffn_gate.weight\" (I2_S) has a scale of");
  }
}

BOOST_AUTO_TEST_CASE(warns_of_i2_s_without_any_zero) {
  gguf_writer writer = make_synthetic_model(synthetic_model());
  std::string bytes = produced(writer, "blk.0.attn_k.weight");
  std::fill(bytes.begin(), bytes.end() - 32, static_cast<char>(0xAA));
  replace(writer, "blk.0.attn_k.weight", tensor_type::i2_s, bytes);
  load_log warnings;
  loaded(writer, warnings.options());
  BOOST_REQUIRE(warnings.lines.size() == 1U);
  BOOST_TEST((warnings.lines[0].find("implausible share of zeros") != std::string::npos));
}

BOOST_AUTO_TEST_CASE(refuses_tl1_and_tl2_by_name_and_says_what_to_do) {
  for (const std::uint32_t type : {38U, 39U}) {
    gguf_writer writer = make_synthetic_model(synthetic_model());
    writer.find("blk.0.attn_q.weight")->type = type;
    const std::string name = type == 38 ? "TL1" : "TL2";
    check_refused(writer, "\"blk.0.attn_q.weight\" is stored as " + name, error_code::unsupported_model);
    check_refused(writer, "convert the model to I2_S or TQ2_0", error_code::unsupported_model);
  }
}

BOOST_AUTO_TEST_CASE(refuses_types_in_the_wrong_place) {
  gguf_writer linear = make_synthetic_model(with_linear(tensor_type::f32));
  replace(linear, "blk.0.ffn_up.weight", tensor_type::q8_0,
          bitnet::tests::encode_values(tensor_type::q8_0, std::vector<float>(512 * 256, 0.5F)));
  check_refused(linear, "\"blk.0.ffn_up.weight\" is a linear layer stored as Q8_0",
                error_code::unsupported_model);

  gguf_writer embedding = make_synthetic_model(synthetic_model());
  replace(embedding, "token_embd.weight", tensor_type::tq2_0,
          bitnet::tests::encode_ternary(tensor_type::tq2_0, std::vector<std::int8_t>(512 * 256, 1), 1.0F));
  check_refused(embedding, "\"token_embd.weight\" is stored as TQ2_0", error_code::unsupported_model);
}

BOOST_AUTO_TEST_CASE(names_each_missing_or_superfluous_tensor) {
  for (const char* name : {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight",
                           "blk.1.ffn_down.weight", "blk.1.attn_sub_norm.weight"}) {
    gguf_writer writer = make_synthetic_model(synthetic_model());
    writer.remove_tensor(name);
    check_refused(writer, "tensor \"" + std::string(name) + "\" is missing");
  }
  for (const char* name : {"blk.0.attn_q.bias", "blk.2.attn_norm.weight", "rope_freqs.weight"}) {
    gguf_writer writer = make_synthetic_model(synthetic_model());
    writer.add_tensor(name, 0, {2}, std::string(8, '\1'));
    check_refused(writer, "tensor \"" + std::string(name) + "\" has no place", error_code::unsupported_model);
  }
}

BOOST_AUTO_TEST_CASE(rope_factors_of_one_are_harmless) {
  gguf_writer writer = make_synthetic_model(synthetic_model());
  writer.add_tensor("rope_freqs.weight", 0, {32},
                    bitnet::tests::encode_values(tensor_type::f32, std::vector<float>(32, 1.0F)));
  loaded(writer);
}

BOOST_AUTO_TEST_CASE(refuses_shapes_that_the_metadata_does_not_ask_for) {
  gguf_writer writer = make_synthetic_model(synthetic_model());
  writer.find("blk.0.attn_k.weight")->shape = {128, 256};
  check_refused(writer,
                "\"blk.0.attn_k.weight\" has the shape [128, 256], but the metadata asks for [256, 128]");
  gguf_writer vocabulary = make_synthetic_model(synthetic_model());
  vocabulary.remove("bitnet-b1.58.vocab_size");
  vocabulary.add_u32("bitnet-b1.58.vocab_size", 511);
  check_refused(vocabulary, "\"token_embd.weight\" has the shape");
}

BOOST_AUTO_TEST_CASE(refuses_values_that_are_not_finite) {
  const auto poison = [](gguf_writer& writer, std::string_view name, tensor_type type) {
    std::string bytes = produced(writer, name);
    const std::uint32_t nan = 0x7FC07FC0U;
    std::memcpy(bytes.data() + bytes.size() / 2, &nan, 4);
    replace(writer, name, type, bytes);
  };
  for (const bool tied : {true, false}) {
    synthetic_model shape = with_linear(tensor_type::bf16);
    shape.tied_embeddings = tied;
    for (const char* name : {"token_embd.weight", "output.weight"}) {
      if (tied && std::string_view(name) == "output.weight") continue;
      gguf_writer writer = make_synthetic_model(shape);
      poison(writer, name, tensor_type::f16);
      check_refused(writer, "\"" + std::string(name) + "\" holds a value that is not finite");
    }
    gguf_writer norm = make_synthetic_model(shape);
    poison(norm, "blk.1.attn_norm.weight", tensor_type::f32);
    check_refused(norm, "\"blk.1.attn_norm.weight\" holds a value that is not finite");
    gguf_writer linear = make_synthetic_model(shape);
    poison(linear, "blk.1.attn_q.weight", tensor_type::bf16);
    check_refused(linear, "\"blk.1.attn_q.weight\" (BF16) holds a value that is not finite");
  }
}

BOOST_AUTO_TEST_CASE(a_file_that_shrinks_before_loading_gives_an_error) {
  memory_file file(make_synthetic_model(synthetic_model()).bytes());
  const auto opened = gguf_file::open(file.path());
  BOOST_REQUIRE(opened.has_value());
  file.truncate(200000);
  const auto weights = load_weights(*opened, {});
  BOOST_REQUIRE(!weights);
  BOOST_TEST((weights.error().message.find("was longer when it was opened") != std::string::npos));
}

BOOST_AUTO_TEST_CASE(nothing_is_read_from_the_file_after_loading) {
  auto file = std::make_unique<memory_file>(make_synthetic_model(synthetic_model()).bytes());
  const auto opened = gguf_file::open(file->path());
  BOOST_REQUIRE(opened.has_value());
  const auto weights = load_weights(*opened, {});
  BOOST_REQUIRE(weights.has_value());
  file->truncate(0);
  std::vector<float> row(256);
  (*weights)->embedding->row(511, row.data());
  BOOST_TEST(std::any_of(row.begin(), row.end(), [](float value) { return value != 0.0F; }));
}

BOOST_AUTO_TEST_CASE(refuses_a_model_larger_than_the_memory_and_says_by_how_much) {
  const gguf_writer writer = make_synthetic_model(synthetic_model());
  const memory_file file(writer.bytes());
  const auto opened = gguf_file::open(file.path());
  const auto config = read_model_config(**opened);
  const std::uint64_t needed = weights_memory_bytes(*config, *(*opened)->find_tensor("token_embd.weight"),
                                                    bitnet::kernels::head_matrix::format::int8);
  load_options options;
  options.memory_limit_bytes = needed;
  BOOST_TEST(load_weights(*opened, options).has_value());
  options.memory_limit_bytes = needed - 1;
  const auto refused = load_weights(*opened, options);
  BOOST_REQUIRE(!refused);
  BOOST_TEST((refused.error().code == error_code::out_of_memory));
  BOOST_TEST((refused.error().message.find("MiB of memory for its weights") != std::string::npos));

  // A second copy that was asked for counts; the scalar kernels can always read it.
  options.isa = bitnet::kernels::instruction_set::scalar;
  options.decode = decode_format::base3;
  const std::uint64_t copy = decode_copy_bytes(*config);
  options.memory_limit_bytes = needed + copy - 1;
  BOOST_TEST(!load_weights(*opened, options).has_value());
  options.memory_limit_bytes = needed + copy;
  const auto both = load_weights(*opened, options);
  BOOST_REQUIRE(both.has_value());
  options.decode = decode_format::two_bit;
  BOOST_TEST((*both)->decode_blocks.size() == config->block_count);
  BOOST_TEST(load_weights(*opened, options).value()->decode_blocks.empty());
}

BOOST_AUTO_TEST_CASE(a_screen_is_made_where_it_is_wanted_and_counts_as_memory) {
  const gguf_writer writer = make_synthetic_model(synthetic_model());
  load_options options;
  BOOST_TEST(!loaded(writer, options)->screen.has_value());
  options.screen_head = true;
  options.screen_candidates = 100;
  const auto weights = loaded(writer, options);
  BOOST_REQUIRE(weights->screen.has_value());
  BOOST_TEST(weights->screen->rows() == weights->head.rows());
  BOOST_TEST(weights->screen_candidates == 100U);
  const auto taken = weights->screen->code_bytes().size() + weights->screen->int8_row_bytes().size();
  BOOST_TEST(head_screen_bytes(weights->config) == taken);
  // What a step reads: half a byte a weight, and the candidates.
  options.screen_head = false;
  const auto head = weights->head.bytes().size();
  BOOST_TEST(weights->bytes_read_per_step(2) == loaded(writer, options)->bytes_read_per_step(2) - head / 2 +
                                                    2 * 100 * weights->head.padded_cols());

  const memory_file file(writer.bytes());
  const auto opened = gguf_file::open(file.path());
  const std::uint64_t needed =
      weights_memory_bytes(weights->config, *(*opened)->find_tensor("token_embd.weight"),
                           bitnet::kernels::head_matrix::format::int8) +
      taken;
  options.screen_head = true;
  options.memory_limit_bytes = needed;
  BOOST_TEST(load_weights(*opened, options).has_value());
  options.memory_limit_bytes = needed - 1;
  BOOST_TEST(!load_weights(*opened, options).has_value());
}

BOOST_AUTO_TEST_CASE(the_memory_estimate_is_what_loading_takes) {
  for (const auto head :
       {bitnet::kernels::head_matrix::format::int8, bitnet::kernels::head_matrix::format::f16}) {
    load_options options;
    options.head = head;
    const auto weights = loaded(make_synthetic_model(synthetic_model()), options);
    const std::uint64_t estimate =
        weights_memory_bytes(weights->config, *weights->file->find_tensor("token_embd.weight"), head);
    const std::uint64_t packed = weights->bytes_read_per_step() + weights->embedding->bytes().size();
    BOOST_TEST(estimate >= packed);
    // Norms and head scales are the rest.
    BOOST_TEST(estimate <= packed + 40000);
  }
}

BOOST_AUTO_TEST_CASE(progress_grows_to_one_on_the_calling_thread) {
  std::vector<float> seen;
  load_options options;
  options.threads = 2;
  options.progress = [&](float fraction) { seen.push_back(fraction); };
  for (const tensor_type type : linear_types) {
    seen.clear();
    loaded(make_synthetic_model(with_linear(type)), options);
    BOOST_TEST(seen.size() > 10U);
    BOOST_TEST(seen.size() < 300U);
    BOOST_TEST(std::is_sorted(seen.begin(), seen.end()));
    BOOST_TEST(seen.back() == 1.0F);
    // The last call is unconditional: the one before it shows that the accounting adds up.
    BOOST_TEST(seen[seen.size() - 2] > 0.95F);
  }
}

BOOST_AUTO_TEST_SUITE_END()
