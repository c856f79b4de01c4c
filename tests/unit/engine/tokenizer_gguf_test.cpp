#include "engine/chat_template.hpp"
#include "engine/gguf.hpp"
#include "tests/support/gguf_writer.hpp"
#include "tests/unit/engine/tokenizer_vectors.hpp"

#include <boost/test/unit_test.hpp>

#include <unistd.h>

#include <filesystem>
#include <vector>

using namespace bitnet;

namespace {

/// A file that is gone with the object.
class temporary_file {
 public:
  temporary_file() {
    std::string name = (std::filesystem::temp_directory_path() / "tokenizer_XXXXXX").string();
    const int descriptor = mkstemp(name.data());
    if (descriptor < 0) throw std::runtime_error("no temporary file");
    close(descriptor);
    path_ = name;
  }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  ~temporary_file() { std::filesystem::remove(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

tests::gguf_writer keys_of(const engine::tokenizer_data& data) {
  tests::gguf_writer file;
  file.add_string("general.architecture", "llama");
  file.add_string("tokenizer.ggml.model", data.model);
  if (data.pre) file.add_string("tokenizer.ggml.pre", *data.pre);
  file.add_strings("tokenizer.ggml.tokens", data.tokens);
  file.add_i32s("tokenizer.ggml.token_type",
                std::vector<std::int32_t>(data.token_types.begin(), data.token_types.end()));
  if (!data.scores.empty()) {
    file.add_f32s("tokenizer.ggml.scores", std::vector<float>(data.scores.begin(), data.scores.end()));
  }
  if (!data.merges.empty()) file.add_strings("tokenizer.ggml.merges", data.merges);
  const auto add_id = [&](const char* key, const std::optional<std::uint64_t>& id) {
    if (id) file.add_u32(key, static_cast<std::uint32_t>(*id));
  };
  add_id("tokenizer.ggml.bos_token_id", data.bos_token_id);
  add_id("tokenizer.ggml.eos_token_id", data.eos_token_id);
  add_id("tokenizer.ggml.unknown_token_id", data.unknown_token_id);
  return file;
}

std::shared_ptr<const engine::gguf_file> written(const tests::gguf_writer& writer) {
  const temporary_file place;
  writer.write(place.path());
  auto file = engine::gguf_file::open(place.path());
  if (!file) throw std::runtime_error(file.error().message);
  return *file;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tokenizer_gguf)

BOOST_AUTO_TEST_CASE(a_file_gives_the_same_tokenizer_as_its_keys) {
  for (const char* name : {"llama-bpe", "gpt-2", "sentencepiece"}) {
    const auto vectors = tests::load_tokenizer_vectors(name);
    const auto expected = tests::make_or_throw(vectors.data);
    const auto loaded = engine::load_tokenizer(*written(keys_of(vectors.data)));
    BOOST_REQUIRE(loaded);
    BOOST_TEST((*loaded)->size() == expected->size());
    BOOST_TEST((*loaded)->bos().value_or(0) == expected->bos().value_or(0));
    BOOST_TEST((*loaded)->eos().value() == expected->eos().value());
    BOOST_TEST((*loaded)->stop_tokens() == expected->stop_tokens(), boost::test_tools::per_element());
    for (const auto& item : vectors.cases) BOOST_TEST((*loaded)->encode(item.text, false) == item.ids);
  }
}

BOOST_AUTO_TEST_CASE(switches_are_read) {
  auto bytes = keys_of(tests::load_tokenizer_vectors("llama-bpe").data);
  bytes.add_bool("tokenizer.ggml.add_bos_token", false);
  BOOST_TEST(!engine::load_tokenizer(*written(bytes)).value()->bos());
  bytes.add_u32("tokenizer.ggml.eot_token_id", 7);
  BOOST_TEST(engine::load_tokenizer(*written(bytes)).value()->stop_tokens().front() == 7U);
  auto pieces = keys_of(tests::load_tokenizer_vectors("sentencepiece").data);
  pieces.add_bool("tokenizer.ggml.add_space_prefix", false);
  const auto tokens = engine::load_tokenizer(*written(pieces)).value();
  BOOST_TEST(tokens->token_bytes(tokens->encode("the", false).front()).front() == 't');
}

BOOST_AUTO_TEST_CASE(a_file_without_a_tokenizer_is_refused_by_key) {
  for (const auto& [key, part] : {std::pair("tokenizer.ggml.model", "tokenizer.ggml.model"),
                                  std::pair("tokenizer.ggml.tokens", "tokenizer.ggml.tokens"),
                                  std::pair("tokenizer.ggml.pre", "tokenizer.ggml.pre")}) {
    auto file = keys_of(tests::load_tokenizer_vectors("llama-bpe").data);
    file.remove(key);
    const auto loaded = engine::load_tokenizer(*written(file));
    BOOST_REQUIRE(!loaded);
    BOOST_TEST(loaded.error().message.find(part) != std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(the_chat_format_follows_the_metadata) {
  auto vectors = tests::load_tokenizer_vectors("llama-bpe");
  vectors.data.pre = "falcon3";
  const auto file = written(keys_of(vectors.data));
  const auto tokens = engine::load_tokenizer(*file).value();
  engine::model_config config;
  config.architecture = "llama";
  BOOST_TEST((engine::detect_chat_format(*file, config, *tokens) == engine::chat_format::falcon3));
  config.architecture = "bitnet-b1.58";
  BOOST_TEST((engine::detect_chat_format(*file, config, *tokens) == engine::chat_format::bitnet));
}

BOOST_AUTO_TEST_SUITE_END()
