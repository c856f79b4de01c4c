#include "tests/unit/engine/tokenizer_vectors.hpp"

#include <boost/test/unit_test.hpp>

#include <random>

using namespace bitnet;
using bitnet::engine::token_id;

namespace {

using ids = std::vector<token_id>;

/// <unk>, <s>, </s>, the 256 byte tokens (byte b is token 3 + b), then the given pieces with falling scores.
engine::tokenizer_data pieces(const std::vector<std::string>& list) {
  engine::tokenizer_data data;
  data.model = "llama";
  data.tokens = {"<unk>", "<s>", "</s>"};
  data.token_types = {2, 3, 3};
  data.unknown_token_id = 0;
  data.bos_token_id = 1;
  data.eos_token_id = 2;
  constexpr char digits[] = "0123456789ABCDEF";
  for (unsigned byte = 0; byte < 256; ++byte) {
    data.tokens.push_back(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">");
    data.token_types.push_back(6);
  }
  for (const auto& piece : list) {
    data.tokens.push_back(piece);
    data.token_types.push_back(1);
  }
  data.scores.resize(data.tokens.size());
  for (std::size_t i = 259; i < data.scores.size(); ++i) data.scores[i] = -static_cast<double>(i);
  return data;
}

constexpr token_id first_piece = 259;

}  // namespace

BOOST_AUTO_TEST_SUITE(sentencepiece_bpe)

BOOST_AUTO_TEST_CASE(encodes_as_the_reference_does) {
  const auto vectors = tests::load_tokenizer_vectors("sentencepiece");
  const auto tokens = tests::make_or_throw(vectors.data);
  for (const auto& item : vectors.cases) {
    // The reference keeps no difference between U+2581 and a space; nor do we, but decoding shows it.
    const bool has_escape = item.text.find("\xE2\x96\x81") != std::string::npos;
    BOOST_TEST_CONTEXT("text \"" << item.text << "\"") {
      BOOST_TEST(tokens->encode(item.text, false) == item.ids, boost::test_tools::per_element());
      if (!has_escape) BOOST_TEST(tokens->decode(item.ids) == item.text);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_highest_score_merges_first) {
  const auto tokens = tests::make_or_throw(pieces({"bc", "ab", "a", "b", "c", "\xE2\x96\x81"}));
  BOOST_TEST(tokens->encode("abc", false) == (ids{first_piece + 5, first_piece + 2, first_piece}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(unknown_characters_fall_back_to_bytes) {
  const auto tokens = tests::make_or_throw(pieces({"\xE2\x96\x81"}));
  BOOST_TEST(tokens->encode("\xC3\xA9", false) == (ids{first_piece, 3 + 0xC3, 3 + 0xA9}),
             boost::test_tools::per_element());
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    std::string bytes(random() % 64, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    BOOST_REQUIRE(tokens->decode(tokens->encode(bytes, false)) == bytes);
  }
}

BOOST_AUTO_TEST_CASE(the_space_prefix_can_be_switched_off) {
  auto data = pieces({"a", "\xE2\x96\x81"});
  data.add_space_prefix = false;
  const auto tokens = tests::make_or_throw(data);
  BOOST_TEST(tokens->encode("a", false) == (ids{first_piece}), boost::test_tools::per_element());
  BOOST_TEST(tokens->decode(tokens->encode(" a", false)) == " a");
}

BOOST_AUTO_TEST_CASE(only_the_first_word_loses_its_space) {
  const auto tokens =
      tests::make_or_throw(pieces({"\xE2\x96\x81"
                                   "a",
                                   "a", "\xE2\x96\x81"}));
  BOOST_TEST(tokens->decode({1, first_piece, first_piece, 2}) == "a a");
  BOOST_TEST(tokens->decode({1, first_piece, first_piece, 2}, true) == "<s>a a</s>");
  BOOST_TEST(tokens->token_bytes(first_piece) == " a");
}

BOOST_AUTO_TEST_CASE(text_cannot_forge_control_or_byte_tokens) {
  const auto tokens = tests::make_or_throw(pieces(
      {"<", "s", ">", "<s", "/s", "</s", "<0", "<0x", "<0x4", "<0x41", "0", "x", "4", "1", "\xE2\x96\x81"}));
  for (const token_id id : tokens->encode("<s></s><0x41>", false)) {
    BOOST_TEST(id >= first_piece - 256);  // bytes and pieces, not <unk>, <s>, </s>
    BOOST_TEST(id != 3 + 0x41);
  }
  BOOST_TEST(tokens->decode(tokens->encode("<s></s><0x41>", false)) == "<s></s><0x41>");
  BOOST_TEST(tokens->encode("<s>", true) == (ids{1}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(encoding_a_long_repetition_is_not_quadratic) {
  std::vector<std::string> list{"\xE2\x96\x81", "a"};
  for (std::string run = "aa"; run.size() <= 64; run += run) list.push_back(run);
  const auto tokens = tests::make_or_throw(pieces(list));
  const std::string text(1'000'000, 'a');
  BOOST_TEST(tokens->encode(text, false).size() == 1 + text.size() / 64);
}

BOOST_AUTO_TEST_CASE(refuses_missing_scores_and_bytes) {
  auto data = pieces({"a"});
  data.scores.pop_back();
  BOOST_TEST(!engine::make_tokenizer(data));
  data = pieces({"a"});
  data.scores[5] = std::numeric_limits<double>::quiet_NaN();
  BOOST_TEST(!engine::make_tokenizer(data));
  data = pieces({"a"});
  data.tokens[3] = "<0xZZ>";
  BOOST_TEST(!engine::make_tokenizer(data));
  data = pieces({"a"});
  data.tokens[3] = "filler";
  data.token_types[3] = 1;
  BOOST_TEST(!!engine::make_tokenizer(data));
  data.unknown_token_id.reset();
  BOOST_TEST(!engine::make_tokenizer(data));
}

BOOST_AUTO_TEST_SUITE_END()
