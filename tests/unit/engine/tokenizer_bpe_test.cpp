#include "engine/byte_alphabet.hpp"
#include "engine/pre_tokenizer.hpp"
#include "tests/unit/engine/tokenizer_vectors.hpp"

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <random>

using namespace bitnet;
using bitnet::engine::token_id;

namespace {

using ids = std::vector<token_id>;

std::string random_bytes(std::mt19937& random, std::size_t size) {
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

void append_code_point(std::string& text, char32_t point) {
  const auto push = [&](char32_t value) { text.push_back(static_cast<char>(value)); };
  if (point < 0x80) {
    push(point);
  } else if (point < 0x800) {
    push(0xC0 | (point >> 6));
    push(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    push(0xE0 | (point >> 12));
    push(0x80 | ((point >> 6) & 0x3F));
    push(0x80 | (point & 0x3F));
  } else {
    push(0xF0 | (point >> 18));
    push(0x80 | ((point >> 12) & 0x3F));
    push(0x80 | ((point >> 6) & 0x3F));
    push(0x80 | (point & 0x3F));
  }
}

std::string random_utf8(std::mt19937& random, std::size_t characters) {
  constexpr char32_t limits[] = {0x80, 0x250, 0x2100, 0xD7FF, 0x1FFFF};
  std::string text;
  for (std::size_t i = 0; i < characters; ++i) append_code_point(text, random() % limits[random() % 5]);
  return text;
}

void compare_with_reference(std::string_view name) {
  const auto vectors = tests::load_tokenizer_vectors(name);
  const auto tokens = tests::make_or_throw(vectors.data);
  for (const auto& item : vectors.cases) {
    BOOST_TEST_CONTEXT("text \"" << item.text << "\"") {
      BOOST_TEST(tokens->encode(item.text, false) == item.ids, boost::test_tools::per_element());
      BOOST_TEST(tokens->encode(item.text, true) == item.ids_with_special, boost::test_tools::per_element());
      BOOST_TEST(tokens->decode(item.ids) == item.text);
      BOOST_TEST(tokens->decode(item.ids_with_special, true) == item.text);
    }
  }
}

std::vector<std::string> words_of(std::string_view name, std::string_view text) {
  const auto words = engine::pre_tokenizer::create(name);
  BOOST_REQUIRE(words);
  std::vector<std::string> found;
  for (const auto word : words->split(text)) found.emplace_back(word);
  return found;
}

using strings = std::vector<std::string>;

}  // namespace

BOOST_AUTO_TEST_SUITE(byte_level_bpe)

BOOST_AUTO_TEST_CASE(byte_alphabet_spells_every_byte_and_reads_it_back) {
  std::string all;
  for (unsigned byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  BOOST_TEST(engine::bytes_of_spelling(engine::spelling_of_bytes(all)).value() == all);
  BOOST_TEST(engine::spelling_of_bytes(" a\n") ==
             "\xC4\xA0"
             "a\xC4\x8A");
}

BOOST_AUTO_TEST_CASE(byte_alphabet_refuses_characters_outside_it) {
  for (const char* spelling : {" ", "\n", "\xC2\xA0", "\xC5\x84", "\xE2\x96\x81", "\xC4",
                               "\xC4"
                               "a",
                               "\xFF", "\xC0\xA0"}) {
    BOOST_TEST(!engine::bytes_of_spelling(spelling).has_value());
  }
}

BOOST_AUTO_TEST_CASE(llama_bpe_encodes_as_the_reference_does) {
  compare_with_reference("llama-bpe");
}

BOOST_AUTO_TEST_CASE(gpt2_encodes_as_the_reference_does) {
  compare_with_reference("gpt-2");
}

BOOST_AUTO_TEST_CASE(falcon_names_split_as_llama_bpe) {
  for (const char* name : {"falcon3", "falcon_e", "llama3", "llama-v3"}) {
    auto vectors = tests::load_tokenizer_vectors("llama-bpe");
    vectors.data.pre = name;
    const auto tokens = tests::make_or_throw(vectors.data);
    for (const auto& item : vectors.cases) BOOST_TEST(tokens->encode(item.text, false) == item.ids);
  }
}

BOOST_AUTO_TEST_CASE(default_pre_tokenizer_splits_signs_and_digits_first) {
  BOOST_TEST(words_of("default", "Hello, world! 12345 x") ==
                 (strings{"Hello", ",", " world", "!", " ", "123", "45", " x"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(pre_tokenizer_covers_the_text_in_order) {
  std::mt19937 random(2);
  for (const char* name : {"llama-bpe", "gpt-2", "default"}) {
    const auto words = engine::pre_tokenizer::create(name);
    BOOST_REQUIRE(words);
    for (int round = 0; round < 500; ++round) {
      const std::string text =
          round % 2 == 0 ? random_bytes(random, random() % 64) : random_utf8(random, random() % 64);
      const char* expected = text.data();
      for (const auto word : words->split(text)) {
        BOOST_REQUIRE(!word.empty());
        BOOST_REQUIRE(word.data() == expected);
        expected += word.size();
      }
      BOOST_REQUIRE(expected == text.data() + text.size());
    }
  }
}

BOOST_AUTO_TEST_CASE(bytes_that_are_not_utf8_are_words_of_their_own) {
  BOOST_TEST(words_of("llama-bpe",
                      "ab\xFF\xFE"
                      "cd \xE2\x82 e") == (strings{"ab", "\xFF\xFE", "cd", " ", "\xE2\x82", " e"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(decoding_gives_back_random_bytes) {
  std::mt19937 random(3);
  for (const char* name : {"llama-bpe", "gpt-2"}) {
    const auto tokens = tests::make_or_throw(tests::load_tokenizer_vectors(name).data);
    for (int round = 0; round < 500; ++round) {
      const std::string bytes = random_bytes(random, random() % 200);
      BOOST_REQUIRE(tokens->decode(tokens->encode(bytes, false)) == bytes);
    }
  }
}

BOOST_AUTO_TEST_CASE(decoding_gives_back_random_text) {
  std::mt19937 random(4);
  for (const char* name : {"llama-bpe", "gpt-2"}) {
    const auto tokens = tests::make_or_throw(tests::load_tokenizer_vectors(name).data);
    for (int round = 0; round < 500; ++round) {
      const std::string text = random_utf8(random, random() % 100);
      BOOST_REQUIRE(tokens->decode(tokens->encode(text, false)) == text);
    }
  }
}

BOOST_AUTO_TEST_CASE(merges_take_the_smallest_rank_and_then_the_leftmost) {
  auto data = tests::byte_vocabulary();
  data.tokens.insert(data.tokens.end(), {"aa", "ab", "aab"});  // 256, 257, 258
  data.merges = {"a a", "a b", "aa b"};
  const auto tokens = tests::make_or_throw(data);
  BOOST_TEST(tokens->encode("aaa", false) == (ids{256, 'a'}), boost::test_tools::per_element());
  BOOST_TEST(tokens->encode("aaaab", false) == (ids{256, 258}), boost::test_tools::per_element());
  // "ab" has a worse rank than "aa", so that the first two letters merge first.
  BOOST_TEST(tokens->encode("xaab", false) == (ids{'x', 258}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(llama_bpe_takes_a_whole_word_before_merging) {
  auto data = tests::byte_vocabulary();
  data.tokens.insert(data.tokens.end(), {"ab", "abc"});  // 256, 257: no merge makes "abc"
  data.merges = {"a b"};
  BOOST_TEST(tests::make_or_throw(data)->encode("abc", false) == (ids{257}),
             boost::test_tools::per_element());
  BOOST_TEST(tests::make_or_throw(data)->encode("abcd", false) == (ids{256, 'c', 'd'}),
             boost::test_tools::per_element());
  data.pre = "gpt-2";
  BOOST_TEST(tests::make_or_throw(data)->encode("abc", false) == (ids{256, 'c'}),
             boost::test_tools::per_element());
}

// A megabyte in one word: quadratic merging takes minutes, so the bound is far from noise.
BOOST_AUTO_TEST_CASE(encoding_a_long_repetition_is_not_quadratic) {
  auto data = tests::byte_vocabulary();
  std::string run = "a";
  for (int doubling = 0; doubling < 6; ++doubling) {
    data.merges.push_back(run + " " + run);
    run += run;
    data.tokens.push_back(run);
  }
  const auto tokens = tests::make_or_throw(data);
  for (const char* unit : {"a", " ", "\n", "'", "1", "\xFF", "\xC3\xA9", " \n"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const auto encoded = tokens->encode(text, true);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    BOOST_TEST(tokens->decode(encoded) == text);
    BOOST_TEST(seconds.count() < 30);
    if (*unit == 'a') BOOST_TEST(encoded.size() == text.size() / 64);
  }
}

BOOST_AUTO_TEST_SUITE_END()
