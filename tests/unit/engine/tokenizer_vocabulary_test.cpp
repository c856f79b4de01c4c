#include "engine/vocabulary.hpp"
#include "tests/unit/engine/tokenizer_vectors.hpp"

#include <boost/test/unit_test.hpp>

#include <functional>

using namespace bitnet;
using bitnet::engine::error_code;
using bitnet::engine::token_id;

namespace {

using ids = std::vector<token_id>;

/// byte_vocabulary with special tokens from id 256 on.
engine::tokenizer_data with_special(const std::vector<std::pair<std::string, engine::token_type>>& list) {
  auto data = tests::byte_vocabulary();
  data.token_types.assign(256, 1);
  for (const auto& [spelling, type] : list) {
    data.tokens.push_back(spelling);
    data.token_types.push_back(static_cast<std::int64_t>(type));
  }
  return data;
}

constexpr auto control = engine::token_type::control;
constexpr auto user_defined = engine::token_type::user_defined;

void refuses(error_code code, std::string_view part,
             const std::function<void(engine::tokenizer_data&)>& break_it) {
  auto data = with_special({{"<|begin_of_text|>", control}});
  data.bos_token_id = 256;
  data.tokens.push_back("ab");
  data.token_types.push_back(1);
  data.merges = {"a b"};
  BOOST_REQUIRE(engine::make_tokenizer(data));
  break_it(data);
  const auto made = engine::make_tokenizer(data);
  BOOST_REQUIRE(!made);
  BOOST_TEST((made.error().code == code));
  BOOST_TEST_CONTEXT(made.error().message) {
    BOOST_TEST(made.error().message.find(part) != std::string::npos);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(vocabulary)

BOOST_AUTO_TEST_CASE(control_tokens_are_recognised_only_on_request) {
  const auto tokens = tests::make_or_throw(with_special({{"<x>", control}, {"<y>", user_defined}}));
  BOOST_TEST(tokens->encode("a<x>b", true) == (ids{'a', 256, 'b'}), boost::test_tools::per_element());
  BOOST_TEST(tokens->encode("a<x>b", false) == (ids{'a', '<', 'x', '>', 'b'}),
             boost::test_tools::per_element());
  BOOST_TEST(tokens->encode("a<y>b", false) == (ids{'a', 257, 'b'}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_longest_special_token_wins) {
  const auto tokens = tests::make_or_throw(
      with_special({{"<a", control}, {"<a>", control}, {"<a>b>", control}, {"a>", control}}));
  BOOST_TEST(tokens->encode("<a>b>", true) == (ids{258}), boost::test_tools::per_element());
  BOOST_TEST(tokens->encode("<a>b", true) == (ids{257, 'b'}), boost::test_tools::per_element());
  BOOST_TEST(tokens->encode("<ab", true) == (ids{256, 'b'}), boost::test_tools::per_element());
  BOOST_TEST(tokens->encode("<", true) == (ids{'<'}), boost::test_tools::per_element());
  BOOST_TEST(tokens->encode("a><a", true) == (ids{259, 256}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(control_tokens_are_silent_unless_rendered) {
  const auto tokens = tests::make_or_throw(with_special({{"<x>", control}, {"<y>", user_defined}}));
  BOOST_TEST(tokens->decode({'a', 256, 257}) == "a<y>");
  BOOST_TEST(tokens->decode({'a', 256, 257}, true) == "a<x><y>");
  BOOST_TEST(tokens->token_bytes(256) == "");
  BOOST_TEST(tokens->token_bytes(256, true) == "<x>");
  BOOST_TEST(tokens->find_special("<x>").value() == 256);
  BOOST_TEST(!tokens->find_special("<y>"));
  BOOST_TEST(!tokens->find_special("a"));
}

BOOST_AUTO_TEST_CASE(turn_markers_are_control_tokens_whatever_the_file_says) {
  const auto tokens = tests::make_or_throw(with_special({{"<|eot_id|>", engine::token_type::normal}}));
  BOOST_TEST(tokens->encode("<|eot_id|>", false).size() == 10);
  BOOST_TEST(tokens->encode("<|eot_id|>", true) == (ids{256}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(stop_tokens_are_eos_and_the_ends_of_turns) {
  auto data = with_special(
      {{"<eos>", control}, {"<|eot_id|>", control}, {"<|im_end|>", control}, {"<other>", control}});
  data.eos_token_id = 256;
  BOOST_TEST(tests::make_or_throw(data)->stop_tokens() == (ids{256, 257, 258}),
             boost::test_tools::per_element());
  data.eos_token_id.reset();
  data.eot_token_id = 259;
  BOOST_TEST(tests::make_or_throw(data)->stop_tokens() == (ids{257, 258, 259}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(bos_is_set_only_where_the_model_wants_it) {
  auto data = with_special({{"<|begin_of_text|>", control}});
  BOOST_TEST(!tests::make_or_throw(data)->bos());
  data.bos_token_id = 256;
  BOOST_TEST(tests::make_or_throw(data)->bos().value() == 256);
  data.add_bos_token = false;
  BOOST_TEST(!tests::make_or_throw(data)->bos());
  data.add_bos_token.reset();
  data.pre = "gpt-2";
  BOOST_TEST(!tests::make_or_throw(data)->bos());
  data.add_bos_token = true;
  BOOST_TEST(tests::make_or_throw(data)->bos().value() == 256);
}

BOOST_AUTO_TEST_CASE(a_missing_pre_tokenizer_is_known_for_bitnet_files) {
  auto data = tests::byte_vocabulary();
  data.pre.reset();
  const auto refused = engine::make_tokenizer(data);
  BOOST_REQUIRE(!refused);
  BOOST_TEST((refused.error().code == error_code::unsupported_model));
  BOOST_TEST(refused.error().message.find("tokenizer.ggml.pre") != std::string::npos);
  for (const char* architecture : {"bitnet", "bitnet-b1.58", "bitnet-25"}) {
    data.architecture = architecture;
    // Three digits a word: llama-bpe, not gpt-2.
    data.merges = {"1 1", "11 11"};
    data.tokens.resize(256);
    data.tokens.insert(data.tokens.end(), {"11", "1111"});
    BOOST_TEST(tests::make_or_throw(data)->encode("1111", false) == (ids{256, '1', '1'}),
               boost::test_tools::per_element());
  }
  data.architecture = "llama";
  while (data.tokens.size() < 128256)
    data.tokens.push_back("[PAD" + std::to_string(data.tokens.size()) + "]");
  BOOST_TEST(tests::make_or_throw(data)->encode("1111", false) == (ids{256, '1', '1'}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(refuses_what_it_does_not_know_by_name) {
  refuses(error_code::unsupported_model, "\"bert\"", [](auto& data) { data.model = "bert"; });
  refuses(error_code::unsupported_model, "tokenizer.ggml.model", [](auto& data) { data.model.clear(); });
  refuses(error_code::unsupported_model, "\"qwen2\"", [](auto& data) { data.pre = "qwen2"; });
}

BOOST_AUTO_TEST_CASE(refuses_lists_that_contradict_each_other) {
  constexpr auto malformed = error_code::file_malformed;
  refuses(malformed, "tokenizer.ggml.tokens", [](auto& data) { data.tokens.clear(); });
  refuses(malformed, "are the same, \"ab\"", [](auto& data) {
    data.tokens.push_back("ab");
    data.token_types.push_back(1);
  });
  refuses(malformed, "tokenizer.ggml.token_type has", [](auto& data) { data.token_types.pop_back(); });
  refuses(malformed, "tokenizer.ggml.token_type[7] is 9", [](auto& data) { data.token_types[7] = 9; });
  refuses(malformed, "tokenizer.ggml.token_type[7] is -1", [](auto& data) { data.token_types[7] = -1; });
  refuses(malformed, "bos_token_id is 258", [](auto& data) { data.bos_token_id = 258; });
  refuses(malformed, "eos_token_id is 4294967296", [](auto& data) { data.eos_token_id = 4294967296; });
  refuses(malformed, "bos_token_id is missing", [](auto& data) {
    data.bos_token_id.reset();
    data.add_bos_token = true;
  });
  refuses(malformed, "tokenizer.ggml.merges[1], \"a c\"", [](auto& data) { data.merges.push_back("a c"); });
  refuses(malformed, "tokenizer.ggml.merges[0], \"ab\"", [](auto& data) { data.merges = {"ab"}; });
  refuses(malformed, "tokenizer.ggml.merges[0], \"\"", [](auto& data) { data.merges = {""}; });
  refuses(malformed, "byte 0x0A", [](auto& data) { data.tokens[10] = "filler"; });
}

BOOST_AUTO_TEST_CASE(refuses_merges_that_would_let_text_forge_control_tokens) {
  refuses(error_code::file_malformed, "special token", [](auto& data) {
    data.tokens.push_back("<x");
    data.tokens.push_back("<x>");
    data.token_types.push_back(1);
    data.token_types.push_back(3);
    data.merges.push_back("< x");
    data.merges.push_back("<x >");
  });
}

BOOST_AUTO_TEST_SUITE_END()
