#include "actors/console/endpoint.hpp"
#include "apps/bitnet_console/completion.hpp"
#include "apps/bitnet_console/invocation.hpp"
#include "apps/bitnet_console/session.hpp"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

using namespace bitnet::console;
namespace json = boost::json;

namespace {

/// A server that answers by hand.
struct fixture {
  std::filesystem::path directory;
  std::vector<json::object> requests;
  std::string state = "healthy";
  int suspects = 0;
  std::unique_ptr<endpoint> running;
  std::optional<client> server;
  std::string out;
  std::string err;
  std::string reply_to_confirm;
  std::string asked;

  fixture() {
    std::string pattern = (std::filesystem::temp_directory_path() / "console-XXXXXX").string();
    directory = mkdtemp(pattern.data());
    start();
    auto connected = client::connect((directory / "s.sock").string());
    BOOST_REQUIRE_MESSAGE(connected, (connected ? "" : connected.error()));
    server = std::move(*connected);
  }
  ~fixture() {
    running.reset();
    std::filesystem::remove_all(directory);
  }

  void start() {
    endpoint_options options;
    options.socket_path = (directory / "s.sock").string();
    const auto hello = json::parse(R"({"node": "n1", "version": "1.2", "commands": [
        {"name": "ps", "usage": "[NAME]", "summary": "all actors", "acts": false},
        {"name": "top", "usage": "[--by=depth|rate] [--limit=N] [NAME]", "summary": "busiest", "acts": false},
        {"name": "nodes", "usage": "", "summary": "nodes", "acts": false},
        {"name": "fail", "usage": "", "summary": "fails", "acts": false},
        {"name": "drain", "usage": "", "summary": "stop taking requests", "acts": true}]})");
    auto started = endpoint::start(options, hello.as_object(), [this](const json::object& r, const peer&) {
      requests.push_back(r);
      return reply{answer(r), nullptr, {}};
    });
    BOOST_REQUIRE(started);
    running = std::move(*started);
  }

  json::object answer(const json::object& r) const {
    json::object a{{"command", r.at("command")},
                   {"node", {{"name", "n1"}, {"state", state}, {"suspects", suspects}}},
                   {"partial", false}};
    if (r.at("command") == "fail")
      a["error"] = {{"code", "refused"}, {"message", "it did not work"}};
    else if (r.at("command") == "drain")
      a["result"] = {{"done", true}, {"message", "draining"}};
    else if (r.at("command") == "nodes")
      a["result"] = {{"nodes", {{{"name", "n1"}}, {{"name", "n2"}}}}};
    else
      a["result"] = {{"actors", {{{"id", 7}, {"name", "router"}}}}};
    return a;
  }

  exit_code run(const std::vector<std::string>& words, bool write = false, bool may_ask = false) {
    const auto what = parse_words(words);
    BOOST_REQUIRE_MESSAGE(what, (what ? "" : what.error()));
    terminal screen;
    screen.out = [this](const std::string& text) { out += text; };
    screen.err = [this](const std::string& text) { err += text; };
    if (may_ask)
      screen.confirm = [this](const std::string& prompt) {
        asked = prompt;
        return reply_to_confirm;
      };
    session s(*server, screen, write);
    return s.run(*what);
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(console_session, fixture)

BOOST_AUTO_TEST_CASE(the_exit_code_tells_healthy_from_degraded_and_refused) {
  BOOST_TEST((run({"ps"}) == exit_code::ok));
  suspects = 1;
  BOOST_TEST((run({"ps"}) == exit_code::degraded));
  suspects = 0;
  state = "draining";
  BOOST_TEST((run({"ps"}) == exit_code::degraded));
  state = "healthy";
  BOOST_TEST((run({"fail"}) == exit_code::degraded));
  BOOST_TEST(err.find("it did not work") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_server_that_has_gone_is_unreachable_and_a_new_one_is_found) {
  running.reset();
  BOOST_TEST((run({"ps"}) == exit_code::unreachable));
  BOOST_TEST(!err.empty());
  start();
  BOOST_TEST((run({"ps"}) == exit_code::ok));
}

BOOST_AUTO_TEST_CASE(json_is_the_answer_on_one_line) {
  BOOST_TEST((run({"ps", "--json"}) == exit_code::ok));
  BOOST_TEST(std::count(out.begin(), out.end(), '\n') == 1);
  BOOST_TEST((json::parse(out).at("result").at("actors").at(0).at("name") == "router"));
}

BOOST_AUTO_TEST_CASE(words_and_options_reach_the_server) {
  run({"top", "rou", "--by", "depth", "--limit=3"});
  BOOST_REQUIRE_EQUAL(requests.size(), 1U);
  BOOST_TEST((requests[0] == json::parse(R"({"command": "top", "arguments": ["rou"],
      "options": {"by": "depth", "limit": "3"}})")));
}

BOOST_AUTO_TEST_CASE(what_a_command_does_not_know_is_refused_here) {
  BOOST_TEST((run({"ps", "--by=depth"}) == exit_code::usage));
  BOOST_TEST(err.find("ps takes no --by") != std::string::npos, err);
  BOOST_TEST((run({"pss"}) == exit_code::usage));
  BOOST_TEST((run({"drain", "--watch"}, true) != exit_code::ok));
  BOOST_TEST(requests.empty());
}

BOOST_AUTO_TEST_CASE(acting_needs_write_and_a_yes) {
  BOOST_TEST((run({"drain", "--yes"}) == exit_code::degraded));
  BOOST_TEST(err.find("--write") != std::string::npos);
  BOOST_TEST((run({"drain"}, true) == exit_code::degraded));
  BOOST_TEST(err.find("--yes") != std::string::npos);
  reply_to_confirm = "n";
  BOOST_TEST((run({"drain"}, true, true) == exit_code::degraded));
  BOOST_TEST(asked == "drain on n1? [y/N] ");
  BOOST_TEST(requests.empty());
  reply_to_confirm = "y";
  BOOST_TEST((run({"drain"}, true, true) == exit_code::ok));
  BOOST_TEST((run({"drain", "--yes"}, true) == exit_code::ok));
  BOOST_REQUIRE_EQUAL(requests.size(), 2U);
  BOOST_TEST(requests[0].at("write").as_bool());
}

BOOST_AUTO_TEST_CASE(help_names_every_command_of_the_server_and_how_to_begin) {
  BOOST_TEST((run({"help"}) == exit_code::ok));
  for (const auto* word : {"ps", "all actors", "top", "drain", "--write", "Where to begin"})
    BOOST_TEST(out.find(word) != std::string::npos, word);
  out.clear();
  BOOST_TEST((run({"help", "top"}) == exit_code::ok));
  BOOST_TEST(out.find("top [--by=depth|rate] [--limit=N] [NAME]") != std::string::npos);
  BOOST_TEST((run({"help", "nothing"}) == exit_code::usage));
}

BOOST_AUTO_TEST_CASE(completion_knows_commands_options_and_what_lives) {
  const auto has = [](const std::vector<std::string>& all, const std::string& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  };
  const auto commands = completions(*server, "");
  for (const auto* word : {"ps", "top", "drain", "help", "quit"}) BOOST_TEST(has(commands, word), word);
  const auto after_top = completions(*server, "top ");
  for (const auto* word : {"--by=depth", "--by=rate", "--limit=", "router", "7", "--json"})
    BOOST_TEST(has(after_top, word), word);
  BOOST_TEST(has(completions(*server, "latency "), "n2"));
  BOOST_TEST(completions(*server, "nonsense ").empty());
  BOOST_TEST(completions(*server, "ps \"open").empty());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(console_invocation)

BOOST_AUTO_TEST_CASE(options_may_stand_anywhere) {
  const std::vector<std::string> words{"--json", "top", "--watch=0.5", "x", "--by", "rate", "--write", "-f"};
  const auto what = parse_words(words);
  BOOST_REQUIRE(what);
  BOOST_TEST(what->json);
  BOOST_TEST(what->write);
  BOOST_TEST(what->command == "top");
  BOOST_TEST(what->watch.value() == 0.5);
  BOOST_REQUIRE_EQUAL(what->words.size(), 1U);
  BOOST_TEST(what->option("by").value() == "rate");
  BOOST_TEST(what->option("follow").has_value());
}

BOOST_AUTO_TEST_CASE(nonsense_is_refused) {
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"--watch=0"}, {"--watch=soon"}, {"--watch=nan"}, {"--json=1"}, {"top", "--by"}, {"-x"}})
    BOOST_TEST(!parse_words(words), words.back());
}

BOOST_AUTO_TEST_CASE(lines_split_at_blanks_outside_quotes) {
  BOOST_TEST((split_line("  ps  'a b' \"c\" '' ").value() == std::vector<std::string>{"ps", "a b", "c", ""}));
  BOOST_TEST(split_line("").value().empty());
  BOOST_TEST(!split_line("ps 'a"));
}

BOOST_AUTO_TEST_SUITE_END()
