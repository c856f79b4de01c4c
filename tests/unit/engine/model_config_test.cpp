#include "engine/model_config.hpp"

#include "engine/gguf.hpp"
#include "tests/support/memory_file.hpp"
#include "tests/support/synthetic_model.hpp"

#include <boost/test/unit_test.hpp>

using namespace bitnet::engine;
using bitnet::kernels::rope_kind;
using bitnet::tests::gguf_writer;
using bitnet::tests::memory_file;
using bitnet::tests::synthetic_model;

namespace {

result<model_config> config_of(const gguf_writer& writer) {
  const memory_file file(writer.bytes());
  const auto opened = gguf_file::open(file.path());
  BOOST_REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : opened.error().message));
  return read_model_config(**opened);
}

model_config accepted(const gguf_writer& writer) {
  auto config = config_of(writer);
  BOOST_REQUIRE_MESSAGE(config.has_value(), (config ? "" : config.error().message));
  return *config;
}

void check_refused(const gguf_writer& writer, std::string_view part,
                   error_code code = error_code::file_malformed) {
  const auto config = config_of(writer);
  BOOST_REQUIRE_MESSAGE(!config, "was not refused: expected " << part);
  BOOST_TEST((config.error().message.find(part) != std::string::npos),
             config.error().message << " lacks " << part);
  BOOST_TEST((config.error().code == code), config.error().message);
}

/// Keys and tensors of a tiny model.
gguf_writer tiny(std::string_view architecture = "bitnet-b1.58") {
  synthetic_model shape;
  shape.architecture = std::string(architecture);
  return make_synthetic_model(shape);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(model_config_reading)

BOOST_AUTO_TEST_CASE(reads_the_shape_of_bitnet_2b_4t) {
  auto shape = *bitnet::tests::synthetic_shape("2b-4t");
  // The tensors would be 1.2 GB; the config comes from the keys.
  gguf_writer writer = make_synthetic_model(shape);
  writer.tensors().clear();
  const model_config config = accepted(writer);
  BOOST_TEST(config.architecture == "bitnet-b1.58");
  BOOST_TEST(config.name == "bitnet2b");
  BOOST_TEST(config.vocabulary_size == 128256U);
  BOOST_TEST(config.context_length == 4096U);
  BOOST_TEST(config.embedding_length == 2560U);
  BOOST_TEST(config.block_count == 30U);
  BOOST_TEST(config.feed_forward_length == 6912U);
  BOOST_TEST(config.head_count == 20U);
  BOOST_TEST(config.kv_head_count == 5U);
  BOOST_TEST(config.head_dim == 128U);
  BOOST_TEST(config.rms_epsilon == 1e-5F);
  BOOST_TEST(config.rope_theta == 500000.0F);
  BOOST_TEST(config.tied_embeddings);
}

BOOST_AUTO_TEST_CASE(each_architecture_has_its_own_graph) {
  const auto check = [](std::string_view name, ffn_activation activation, rope_kind rope, bool sub_norms) {
    const model_config config = accepted(tiny(name));
    BOOST_TEST_CONTEXT(name) {
      BOOST_TEST((config.activation == activation));
      BOOST_TEST((config.rope == rope));
      BOOST_TEST(config.has_sub_norms == sub_norms);
    }
  };
  check("bitnet", ffn_activation::silu, rope_kind::neox, true);
  check("bitnet-b1.58", ffn_activation::squared_relu, rope_kind::neox, true);
  check("bitnet-25", ffn_activation::squared_relu, rope_kind::neox, true);
  check("llama", ffn_activation::silu, rope_kind::interleaved, false);
}

BOOST_AUTO_TEST_CASE(names_an_architecture_that_is_missing_or_not_supported) {
  gguf_writer writer = tiny();
  writer.remove("general.architecture");
  check_refused(writer, "\"general.architecture\" is missing");
  writer.add_string("general.architecture", "qwen2");
  check_refused(writer, "its architecture is \"qwen2\"", error_code::unsupported_model);
}

BOOST_AUTO_TEST_CASE(names_each_missing_key) {
  for (const char* key : {"context_length", "embedding_length", "block_count", "feed_forward_length",
                          "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
    gguf_writer writer = tiny();
    const std::string full = "bitnet-b1.58." + std::string(key);
    writer.remove(full);
    check_refused(writer, "\"" + full + "\" is missing");
  }
}

BOOST_AUTO_TEST_CASE(optional_keys_have_their_usual_defaults) {
  gguf_writer writer = tiny();
  writer.remove("bitnet-b1.58.attention.head_count_kv");
  writer.remove("bitnet-b1.58.rope.freq_base");
  writer.remove("bitnet-b1.58.rope.dimension_count");
  writer.remove("bitnet-b1.58.vocab_size");
  writer.remove("general.name");
  const model_config config = accepted(writer);
  BOOST_TEST(config.kv_head_count == config.head_count);
  BOOST_TEST(config.rope_theta == 10000.0F);
  BOOST_TEST(config.vocabulary_size == 512U);
  BOOST_TEST(!config.name.empty());
}

BOOST_AUTO_TEST_CASE(a_name_is_always_utf8) {
  gguf_writer writer = tiny();
  writer.remove("general.name");
  writer.add_string("general.name", "caf\xC3\xA9 \xFF end\xE2\x82");
  BOOST_TEST(accepted(writer).name == "caf\xC3\xA9 \xEF\xBF\xBD end\xEF\xBF\xBD");
}

BOOST_AUTO_TEST_CASE(the_vocabulary_size_comes_from_the_embedding_if_nothing_else_tells) {
  gguf_writer writer = tiny();
  writer.remove("bitnet-b1.58.vocab_size");
  writer.remove("tokenizer.ggml.tokens");
  BOOST_TEST(accepted(writer).vocabulary_size == 512U);
  writer.remove_tensor("token_embd.weight");
  check_refused(writer, "vocab_size\" is missing");
}

BOOST_AUTO_TEST_CASE(values_for_every_block_count_as_one_if_they_agree) {
  gguf_writer writer = tiny();
  const std::string key = "bitnet-b1.58.feed_forward_length";
  const std::int32_t same[] = {512, 512};
  writer.remove(key);
  writer.add_i32s(key, same);
  BOOST_TEST(accepted(writer).feed_forward_length == 512U);
  const std::int32_t different[] = {512, 256};
  writer.remove(key);
  writer.add_i32s(key, different);
  check_refused(writer, "\"" + key + "\" differs from block to block", error_code::unsupported_model);
}

BOOST_AUTO_TEST_CASE(refuses_values_out_of_range) {
  const auto check = [](std::string_view key, std::uint64_t value) {
    gguf_writer writer = tiny();
    const std::string full = "bitnet-b1.58." + std::string(key);
    writer.remove(full);
    writer.add_u64(full, value);
    check_refused(writer, "\"" + full + "\" is " + std::to_string(value));
  };
  for (const char* key : {"vocab_size", "context_length", "embedding_length", "block_count",
                          "feed_forward_length", "attention.head_count", "attention.head_count_kv"}) {
    check(key, 0);
    check(key, 1ULL << 40);
  }
  gguf_writer writer = tiny();
  writer.remove("bitnet-b1.58.block_count");
  writer.add_string("bitnet-b1.58.block_count", "two");
  check_refused(writer, "block_count\" is not an unsigned integer");
}

BOOST_AUTO_TEST_CASE(refuses_epsilon_and_theta_that_are_no_positive_number) {
  for (const char* key : {"bitnet-b1.58.attention.layer_norm_rms_epsilon", "bitnet-b1.58.rope.freq_base"}) {
    for (const float value :
         {0.0F, -1.0F, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      gguf_writer writer = tiny();
      writer.remove(key);
      writer.add_f32(key, value);
      check_refused(writer, key);
    }
  }
}

BOOST_AUTO_TEST_CASE(head_length_comes_from_the_key_if_there_is_one) {
  synthetic_model shape;
  shape.head_dim = 96;
  const model_config config = accepted(make_synthetic_model(shape));
  BOOST_TEST(config.head_dim == 96U);
  BOOST_TEST(config.query_length() == 384U);
  BOOST_TEST(config.kv_length() == 192U);
}

BOOST_AUTO_TEST_CASE(refuses_heads_that_do_not_fit) {
  const auto with = [](std::string_view key, std::uint32_t value) {
    gguf_writer writer = tiny();
    const std::string full = "bitnet-b1.58." + std::string(key);
    writer.remove(full);
    writer.add_u32(full, value);
    return writer;
  };
  check_refused(with("attention.head_count", 3), "does not divide the embedding length 256");
  check_refused(with("attention.head_count_kv", 3), "does not divide the 4 query heads");
  check_refused(with("rope.dimension_count", 32), "a head has 64 values", error_code::unsupported_model);
  check_refused(with("attention.value_length", 32), "keys have 64", error_code::unsupported_model);
  gguf_writer odd = with("attention.key_length", 63);
  odd.remove("bitnet-b1.58.rope.dimension_count");
  check_refused(odd, "makes heads of 63 values", error_code::unsupported_model);
  check_refused(with("attention.key_length", 512), "1 to 256 are supported");
}

BOOST_AUTO_TEST_CASE(refuses_what_it_would_compute_wrongly) {
  gguf_writer scaled = tiny();
  scaled.add_string("bitnet-b1.58.rope.scaling.type", "yarn");
  check_refused(scaled, "rope.scaling.type\" is \"yarn\"", error_code::unsupported_model);
  gguf_writer factor = tiny();
  factor.add_f32("bitnet-b1.58.rope.scaling.factor", 8.0F);
  check_refused(factor, "rope.scaling.factor", error_code::unsupported_model);
  gguf_writer experts = tiny();
  experts.add_u32("bitnet-b1.58.expert_count", 8);
  check_refused(experts, "expert_count\" is 8", error_code::unsupported_model);
  gguf_writer harmless = tiny();
  harmless.add_string("bitnet-b1.58.rope.scaling.type", "none");
  harmless.add_f32("bitnet-b1.58.rope.scaling.factor", 1.0F);
  harmless.add_u32("bitnet-b1.58.expert_count", 0);
  accepted(harmless);
}

BOOST_AUTO_TEST_SUITE_END()
