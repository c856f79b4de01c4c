#include "http/openai/text_assembler.hpp"
#include "http/openai/valid_utf8.hpp"

#include <boost/test/unit_test.hpp>

#include <random>
#include <string>
#include <vector>

using namespace bitnet::http::openai;

namespace {

using strings = std::vector<std::string>;

struct assembled {
  std::string text;
  bool stopped = false;
  strings tokens;  ///< released records, in order
  std::vector<std::size_t> offsets;
};

void add(assembled& all, const assembled_text& part) {
  all.text += part.text;
  all.stopped = all.stopped || part.stopped;
  for (const auto& record : part.records) {
    all.tokens.push_back(record.token.bytes);
    all.offsets.push_back(record.text_offset);
  }
}

assembled assemble(const strings& pieces, const strings& stop) {
  text_assembler assembler(stop);
  assembled all;
  for (const std::string& piece : pieces) {
    token_record record;
    record.token.bytes = piece;
    const assembled_text part = assembler.push(piece, record);
    BOOST_REQUIRE(is_valid_utf8(part.text));
    if (all.stopped) BOOST_REQUIRE(part.text.empty() && part.records.empty());
    add(all, part);
  }
  add(all, assembler.finish());
  return all;
}

strings characters(std::string_view text) {
  strings list;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0U) != 0x80) list.emplace_back();
    list.back().push_back(c);
  }
  return list;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(openai_text_assembler)

BOOST_AUTO_TEST_CASE(without_stop_strings_text_passes_at_once) {
  text_assembler assembler({});
  BOOST_TEST(assembler.push("Hello").text == "Hello");
  BOOST_TEST(assembler.push(" world").text == " world");
  BOOST_TEST(assembler.finish().text == "");
}

BOOST_AUTO_TEST_CASE(only_a_possible_stop_prefix_is_held_back) {
  text_assembler assembler({"END", "\n\n"});
  BOOST_TEST(assembler.push("abc").text == "abc");
  BOOST_TEST(assembler.push("xE").text == "x");
  BOOST_TEST(assembler.push("N").text == "");
  BOOST_TEST(assembler.push("x").text == "ENx");
  BOOST_TEST(assembler.push("E\n").text == "E");
  BOOST_TEST(assembler.push("y").text == "\ny");
  BOOST_TEST(assembler.push("EN").text == "");
  BOOST_TEST(assembler.finish().text == "EN");
}

BOOST_AUTO_TEST_CASE(a_stop_string_across_tokens_ends_the_text_before_it) {
  text_assembler assembler({"STOP"});
  BOOST_TEST(assembler.push("one S").text == "one ");
  BOOST_TEST(assembler.push("TO").text == "");
  const auto last = assembler.push("P two");
  BOOST_TEST(last.text == "");
  BOOST_TEST(last.stopped);
  BOOST_TEST(assembler.push("three").text == "");
  BOOST_TEST(assembler.finish().text == "");
}

BOOST_AUTO_TEST_CASE(a_stop_string_inside_one_token_is_found) {
  const auto all = assemble({"a, b. c"}, {". "});
  BOOST_TEST(all.text == "a, b");
  BOOST_TEST(all.stopped);
}

BOOST_AUTO_TEST_CASE(a_false_start_inside_the_stop_string_is_not_lost) {
  BOOST_TEST(assemble({"a", "a", "a", "b", "c"}, {"aab"}).text == "a");
  BOOST_TEST(assemble(characters("ababac"), {"abac"}).text == "ab");
}

BOOST_AUTO_TEST_CASE(the_first_stop_string_to_be_complete_wins) {
  BOOST_TEST(assemble({"xabcd"}, {"abcd", "bc"}).text == "xa");
  BOOST_TEST(assemble(characters("xabcd"), {"abcd", "bc"}).text == "xa");
  BOOST_TEST(assemble({"xabc"}, {"bc", "abc"}).text == "x");
  BOOST_TEST(assemble(characters("xabc"), {"bc", "abc"}).text == "x");
}

BOOST_AUTO_TEST_CASE(stop_strings_with_several_bytes_a_character_work) {
  const auto all = assemble({"caf", "é", "。", "x"}, {"é。"});
  BOOST_TEST(all.text == "caf");
  BOOST_TEST(all.stopped);
  BOOST_TEST(assemble({"è", "é", "!"}, {"é。"}).text == "èé!");
}

BOOST_AUTO_TEST_CASE(text_does_not_depend_on_how_it_is_cut) {
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (unsigned i = random() % 30; i > 0; --i) text += strings{"a", "b", "é", "€"}[random() % 4];
    strings stop;
    for (unsigned i = random() % 4 + 1; i > 0; --i) {
      std::string one;
      for (unsigned j = random() % 4 + 1; j > 0; --j) one += strings{"a", "b", "é", "€"}[random() % 4];
      stop.push_back(one);
    }
    strings pieces;
    for (const std::string& character : characters(text)) {
      if (pieces.empty() || random() % 2 == 0) pieces.emplace_back();
      pieces.back() += character;
    }
    const auto whole = assemble({text}, stop);
    const auto cut = assemble(pieces, stop);
    BOOST_REQUIRE_EQUAL(cut.text, whole.text);
    BOOST_REQUIRE_EQUAL(cut.stopped, whole.stopped);
    for (const std::string& one : stop) BOOST_REQUIRE(whole.text.find(one) == std::string::npos);
    if (!whole.stopped) BOOST_REQUIRE_EQUAL(whole.text, text);
  }
}

BOOST_AUTO_TEST_CASE(offsets_count_characters) {
  const auto all = assemble({"né", "€", " x"}, {});
  BOOST_TEST(all.offsets == (std::vector<std::size_t>{0, 2, 3}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(tokens_that_share_a_character_have_one_offset) {
  text_assembler assembler({});
  token_record record;
  record.token.bytes = "\xE2";
  BOOST_TEST(assembler.push("a", record).records.size() == 1U);
  BOOST_TEST(assembler.push("", record).records.empty());  // its character is not there yet
  const auto part = assembler.push("€b", record);
  BOOST_REQUIRE(part.records.size() == 2U);
  BOOST_TEST(part.records[0].text_offset == 1U);
  BOOST_TEST(part.records[1].text_offset == 1U);
}

BOOST_AUTO_TEST_CASE(records_come_with_their_text) {
  text_assembler assembler({"END"});
  token_record record;
  BOOST_TEST(assembler.push("x", record).records.size() == 1U);
  BOOST_TEST(assembler.push("E", record).records.empty());
  BOOST_TEST(assembler.push("N", record).records.empty());
  BOOST_TEST(assembler.push("x", record).records.size() == 3U);
}

BOOST_AUTO_TEST_CASE(tokens_of_the_stop_string_are_not_reported) {
  const auto all = assemble({"a", "bE", "N", "D", "c"}, {"END"});
  BOOST_TEST(all.text == "ab");
  BOOST_TEST(all.tokens == (strings{"a", "bE"}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(finish_delivers_the_rest_and_may_complete_a_stop_string) {
  text_assembler open({"END"});
  token_record record;
  BOOST_TEST(open.push("xE", record).text == "x");
  const auto rest = open.finish("\xEF\xBF\xBD");
  BOOST_TEST(rest.text == "E\xEF\xBF\xBD");
  BOOST_TEST(!rest.stopped);
  text_assembler silent({});
  BOOST_TEST(silent.push("", record).records.empty());
  BOOST_TEST(silent.finish().records.size() == 1U);
  text_assembler closing({"x\xEF\xBF\xBD"});
  BOOST_TEST(closing.push("ax").text == "a");
  const auto end = closing.finish("\xEF\xBF\xBD");
  BOOST_TEST(end.text == "");
  BOOST_TEST(end.stopped);
}

BOOST_AUTO_TEST_SUITE_END()
