#include "engine/model.hpp"

#include "engine/gguf.hpp"
#include "engine/kv_cache.hpp"
#include "engine/serving_memory.hpp"
#include "tests/support/memory_file.hpp"
#include "tests/support/synthetic_model.hpp"
#include "tests/support/synthetic_vocabulary.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>

using namespace bitnet::engine;
using bitnet::tests::memory_file;
using bitnet::tests::synthetic_model;

BOOST_AUTO_TEST_SUITE(model_loading)

BOOST_AUTO_TEST_CASE(a_model_comes_with_its_tokenizer_and_identity) {
  for (const char* architecture : {"bitnet-b1.58", "llama"}) {
    synthetic_model shape;
    shape.architecture = architecture;
    const memory_file file(make_synthetic_model(shape).bytes());
    const auto loaded = load_model(file.path());
    BOOST_REQUIRE_MESSAGE(loaded.has_value(), (loaded ? "" : loaded.error().message));
    const model& m = **loaded;
    BOOST_TEST(m.id == file.path().stem().string());
    BOOST_TEST((m.path == file.path()));
    BOOST_TEST(m.file_bytes == m.weights->file->size_bytes());
    BOOST_TEST(m.created > 1600000000);
    BOOST_TEST(m.tokens->size() == 512U);
    const auto ids = m.tokens->encode("all the words", false);
    BOOST_TEST(m.tokens->decode(ids) == "all the words");
    const auto vocabulary = bitnet::tests::make_synthetic_vocabulary(512);
    BOOST_TEST(m.tokens->bos().value() == vocabulary.begin_of_text);
    BOOST_TEST(m.tokens->find_special("<|eot_id|>").value() == vocabulary.end_of_turn);
  }
}

BOOST_AUTO_TEST_CASE(the_demo_model_loads_without_a_warning) {
  std::vector<std::string> warnings;
  load_options options;
  options.warn = [&](const std::string& line) { warnings.push_back(line); };
  const auto loaded = load_model("models/demo.gguf", options);
  BOOST_REQUIRE_MESSAGE(loaded.has_value(), (loaded ? "" : loaded.error().message));
  BOOST_TEST(warnings.empty());
  BOOST_TEST((*loaded)->id == "demo");
  BOOST_TEST((*loaded)->config().block_count == (*loaded)->weights->blocks.size());
  BOOST_TEST((*loaded)->tokens->size() == (*loaded)->config().vocabulary_size);
}

BOOST_AUTO_TEST_CASE(what_memory_serving_needs_is_known_before_anything_is_loaded) {
  const memory_file file(make_synthetic_model(synthetic_model()).bytes());
  const auto opened = gguf_file::open(file.path());
  const auto config = read_model_config(**opened);
  const std::uint64_t weights = weights_memory_bytes(*config, *(*opened)->find_tensor("token_embd.weight"),
                                                     bitnet::kernels::head_matrix::format::int8);
  const std::uint64_t context = (kv_blocks_per_context(*config) + 1) * kv_cache_block_bytes(*config);
  load_options options;
  generation_options generation;
  options.memory_limit_bytes = weights + 2 * context;  // half of what is left is for other things
  BOOST_TEST(check_memory_to_serve(file.path(), options, generation).has_value());
  options.memory_limit_bytes -= 2;
  const auto refused = check_memory_to_serve(file.path(), options, generation);
  BOOST_REQUIRE(!refused);
  BOOST_TEST((refused.error().code == error_code::out_of_memory));
  BOOST_TEST(refused.error().message.find("MiB are available beside what is loaded") != std::string::npos);

  generation.kv_cache_bytes = context;
  options.memory_limit_bytes = weights + context;
  BOOST_TEST(check_memory_to_serve(file.path(), options, generation).has_value());
  options.memory_limit_bytes -= 1;
  BOOST_TEST(!check_memory_to_serve(file.path(), options, generation).has_value());

  const auto missing = check_memory_to_serve("/no/such/file", options, generation);
  BOOST_REQUIRE(!missing);
  BOOST_TEST((missing.error().code == error_code::file_not_found));
}

BOOST_AUTO_TEST_CASE(a_cancelled_load_is_given_up) {
  const memory_file file(make_synthetic_model(synthetic_model()).bytes());
  std::atomic<bool> cancelled{false};
  load_options options;
  options.cancelled = &cancelled;
  BOOST_TEST(load_model(file.path(), options).has_value());
  cancelled = true;
  const auto given_up = load_model(file.path(), options);
  BOOST_REQUIRE(!given_up);
  BOOST_TEST(given_up.error().message.find("cancelled") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(refuses_a_tokenizer_of_another_size) {
  auto writer = make_synthetic_model(synthetic_model());
  const auto vocabulary = bitnet::tests::make_synthetic_vocabulary(500);
  writer.remove("tokenizer.ggml.tokens");
  writer.remove("tokenizer.ggml.token_type");
  writer.remove("tokenizer.ggml.merges");
  writer.add_strings("tokenizer.ggml.tokens", vocabulary.tokens);
  writer.add_i32s("tokenizer.ggml.token_type", vocabulary.types);
  writer.add_strings("tokenizer.ggml.merges", vocabulary.merges);
  for (const char* key :
       {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.padding_token_id"}) {
    writer.remove(key);
    writer.add_u32(key, vocabulary.end_of_text);
  }
  const memory_file file(writer.bytes());
  const auto loaded = load_model(file.path());
  BOOST_REQUIRE(!loaded);
  BOOST_TEST((loaded.error().code == error_code::file_malformed));
  BOOST_TEST((loaded.error().message.find("its tokenizer has 500 tokens, but the model has 512") !=
              std::string::npos),
             loaded.error().message);
}

BOOST_AUTO_TEST_CASE(every_error_code_has_a_name_of_its_own) {
  std::vector<std::string_view> names;
  for (int code = 1; code <= static_cast<int>(error_code::internal); ++code)
    names.push_back(to_string(static_cast<error_code>(code)));
  for (std::size_t i = 0; i < names.size(); ++i) {
    BOOST_TEST(names[i] != "unknown");
    for (std::size_t j = 0; j < i; ++j) BOOST_TEST(names[i] != names[j]);
  }
}

BOOST_AUTO_TEST_SUITE_END()
