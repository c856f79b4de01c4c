#include "actors/console/commands.hpp"

#include "actors/introspection/process_slot.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using namespace bitnet::actors;
using namespace bitnet;
using namespace std::chrono_literals;
namespace json = boost::json;

namespace {

class fake_cluster : public cluster_view {
 public:
  std::string self() const override { return "n1"; }
  json::array members() const override {
    return {{{"name", "n1"}, {"state", "alive"}}, {{"name", "n2"}, {"state", "alive"}}};
  }
  json::array routes() const override { return {}; }
  std::optional<double> round_trip_us(const std::string& node) const override {
    return node == "n2" ? std::optional(250.0) : std::nullopt;
  }
};

struct fixture {
  std::int64_t now = 1'000'000'000'000;
  std::shared_ptr<introspection> inspected = std::make_shared<introspection>([this] { return now; });
  health_snapshot facts;
  std::chrono::nanoseconds facts_age{100ms};
  std::vector<std::string> audited;
  std::vector<bool> drains;
  std::vector<std::uint64_t> cancelled;
  console_sources sources;
  std::optional<command_dispatcher> dispatcher;
  console::peer owner{true, 1000, 42};

  fixture() {
    facts.overall = health_status::healthy;
    auto& model = facts.components.emplace_back();
    model.name = "model";
    model.status = health_status::healthy;
    model.message = "tiny is loaded";
    facts.engine.kv_blocks_total = 8;
    facts.engine.kv_blocks_used = 2;
    sources.actors = inspected;
    sources.facts = [this] {
      return snapshot_store::latest_facts{std::make_shared<const health_snapshot>(facts), facts_age};
    };
    sources.events = std::make_shared<event_log>();
    sources.streams = std::make_shared<stream_board>();
    sources.cluster = std::make_shared<fake_cluster>();
    sources.settings = {{"http.port", "9000", "8080"},
                        {"log.level", "info", "info"},
                        {"access.api-keys", "sk-very-secret", ""},
                        {"access.api-keys-file", "/etc/keys", ""}};
    sources.drain = [this](bool draining) { drains.push_back(draining); };
    sources.cancel = [this](std::uint64_t request) { cancelled.push_back(request); };
    sources.log_level = [] { return "info"; };
    sources.set_log_level = [](const std::string& level) { return level == "debug"; };
    sources.audit = [this](const std::string& line) { audited.push_back(line); };
  }

  console::reply reply_to(json::object request, std::optional<console::peer> from = {}) {
    if (!dispatcher) dispatcher.emplace(sources);
    return dispatcher->answer(request, from.value_or(owner));
  }
  json::object ask(const std::string& command, std::vector<std::string> words = {},
                   json::object options = {}) {
    return reply_to({{"command", command},
                     {"arguments", json::array(words.begin(), words.end())},
                     {"options", std::move(options)}})
        .now;
  }
  static std::string error_of(const json::object& answer) {
    return answer.contains("error") ? std::string(answer.at("error").at("message").as_string()) : "";
  }
  process_slot& add(std::uint64_t id, const char* name, std::uint64_t parent = 0, bool supervised = false) {
    return *inspected->table.add({id, parent, name, supervised ? 2U : 1U, supervised});
  }
  void hang(process_slot& slot, std::chrono::nanoseconds time) {
    inspected->table.arrived(slot);
    inspected->table.arrived(slot);
    inspected->table.begin(slot, {message_kind::origin::message, 0, 0, &typeid(int)});
    now += time.count();
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(console_commands, fixture)

BOOST_AUTO_TEST_CASE(every_answer_names_its_schema_and_the_state_of_the_node) {
  const auto answer = ask("version");
  BOOST_TEST((answer.at("schema") == "bitnet.console/1"));
  BOOST_TEST((answer.at("node").at("name") == "n1"));
  BOOST_TEST((answer.at("node").at("state") == "healthy"));
  BOOST_TEST((answer.at("node").at("kv_percent").as_double() == 25.0));
  BOOST_TEST((answer.at("node").at("suspects") == 0));
  BOOST_TEST(answer.at("partial").as_bool() == false);
}

BOOST_AUTO_TEST_CASE(a_hung_actor_is_shown_with_its_message_and_counts_as_suspect) {
  add(1, "idle");
  hang(add(2, "worker"), 12s);
  const auto answer = ask("hung");
  BOOST_TEST((answer.at("node").at("suspects") == 1));
  const auto& rows = answer.at("result").at("hung").as_array();
  BOOST_REQUIRE_EQUAL(rows.size(), 1U);
  BOOST_TEST((rows[0].at("name") == "worker"));
  const std::string why(rows[0].at("why").as_string());
  BOOST_TEST(why.find("in int for 12.0 s on thread") == 0U, why);
  BOOST_TEST(why.find("1 waiting, the first for 12.0 s") != std::string::npos, why);
}

BOOST_AUTO_TEST_CASE(hung_takes_a_threshold_of_ones_own) {
  hang(add(2, "worker"), 500ms);
  BOOST_TEST(ask("hung").at("result").at("hung").as_array().empty());
  BOOST_TEST(ask("hung", {}, {{"over", "0.4"}}).at("result").at("hung").as_array().size() == 1U);
  BOOST_TEST(!error_of(ask("hung", {}, {{"over", "-1"}})).empty());
  BOOST_TEST(!error_of(ask("hung", {}, {{"over", "nan"}})).empty());
}

BOOST_AUTO_TEST_CASE(a_stuck_aggregator_shows_in_the_state_and_in_why) {
  facts_age = 5s;
  const auto answer = ask("health", {}, {{"why", "true"}});
  BOOST_TEST((answer.at("node").at("state") == "stuck"));
  const auto& why = answer.at("result").at("why").as_array();
  BOOST_REQUIRE(!why.empty());
  BOOST_TEST(std::string(why[0].as_string()).find("published nothing for 5.0 s") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(health_says_why_only_when_asked_and_only_where_there_is_something) {
  BOOST_TEST(!ask("health").at("result").as_object().contains("why"));
  BOOST_TEST(ask("health", {}, {{"why", "true"}}).at("result").at("why").as_array().empty());
  facts.components[0].status = health_status::degraded;
  facts.components[0].message = "the file is gone";
  const auto answer = ask("health", {}, {{"why", "true"}});
  BOOST_TEST((answer.at("result").at("why").as_array().at(0) == "model is degraded: the file is gone"));
}

BOOST_AUTO_TEST_CASE(top_sorts_and_filters) {
  auto& a = add(1, "alpha");
  add(2, "beta");
  for (int i = 0; i < 3; ++i) inspected->table.arrived(a);
  const auto by_depth = ask("top", {}, {{"by", "depth"}}).at("result").at("actors").as_array();
  BOOST_TEST((by_depth.at(0).at("name") == "alpha"));
  const auto filtered = ask("top", {"bet"}).at("result").at("actors").as_array();
  BOOST_REQUIRE_EQUAL(filtered.size(), 1U);
  BOOST_TEST((filtered.at(0).at("name") == "beta"));
  BOOST_TEST(error_of(ask("top", {}, {{"by", "colour"}})).find("--by=depth") != std::string::npos);
  BOOST_TEST(ask("top", {}, {{"limit", "1"}}).at("result").at("actors").as_array().size() == 1U);
}

BOOST_AUTO_TEST_CASE(the_tree_follows_parents_and_keeps_orphans) {
  add(1, "root");
  add(2, "child", 1);
  add(3, "grandchild", 2);
  add(4, "orphan", 99);
  const auto rows = ask("tree").at("result").at("actors").as_array();
  BOOST_REQUIRE_EQUAL(rows.size(), 4U);
  BOOST_TEST((rows[0].at("name") == "root" && rows[0].at("level") == 0));
  BOOST_TEST((rows[1].at("name") == "child" && rows[1].at("level") == 1));
  BOOST_TEST((rows[2].at("name") == "grandchild" && rows[2].at("level") == 2));
  BOOST_TEST((rows[3].at("name") == "orphan" && rows[3].at("level") == 0));
}

BOOST_AUTO_TEST_CASE(an_actor_is_chosen_by_id_or_by_a_name_that_is_the_only_one) {
  add(1, "router");
  add(2, "twin");
  add(3, "twin");
  BOOST_TEST((ask("actor", {"router"}).at("result").at("actor").at("id") == 1));
  BOOST_TEST((ask("mailbox", {"3"}).at("result").at("mailbox").at("name") == "twin"));
  BOOST_TEST(error_of(ask("actor", {"twin"})).find("by its id") != std::string::npos);
  BOOST_TEST(error_of(ask("actor", {"nobody"})).find("there are router, twin") != std::string::npos);
  BOOST_TEST(!error_of(ask("actor")).empty());
}

BOOST_AUTO_TEST_CASE(secrets_are_never_shown) {
  for (const auto* option : {"effective", "other"}) {
    const auto text = json::serialize(ask("config", {}, {{option, "true"}}));
    BOOST_TEST(text.find("sk-very-secret") == std::string::npos);
    BOOST_TEST(text.find("(hidden)") != std::string::npos);
    BOOST_TEST(text.find("/etc/keys") != std::string::npos);
  }
  BOOST_TEST(ask("config").at("result").at("settings").as_array().size() == 3U);
  BOOST_TEST(ask("config", {}, {{"effective", "true"}}).at("result").at("settings").as_array().size() == 4U);
  for (const auto* key : {"a.api-key", "b.token", "password", "x.client-secret"})
    BOOST_TEST(is_secret(key), key);
  for (const auto* key : {"engine.kernels", "engine.max-tokens", "tls.key-file", "http.port"})
    BOOST_TEST(!is_secret(key), key);
}

BOOST_AUTO_TEST_CASE(streams_show_tokens_and_rate) {
  auto record = std::make_shared<stream_record>();
  record->request = 7;
  record->answer = "cmpl-abc";
  record->kind = "completion";
  record->max_tokens = 40;
  record->started = std::chrono::steady_clock::now() - 3s;
  auto entry = stream_board::add(sources.streams, record);
  entry.add_tokens(1, record->started + 1s);
  entry.add_tokens(10, record->started + 2s);
  const auto row = ask("streams").at("result").at("streams").as_array().at(0);
  BOOST_TEST((row.at("generated_tokens") == 11));
  BOOST_TEST((row.at("tokens_per_second").as_double() == 10.0));
  BOOST_TEST((row.at("first_token_ms").as_double() == 1000.0));
  BOOST_TEST((ask("request", {"cmpl-abc"}).at("result").at("request").at("request") == 7));
  BOOST_TEST(!error_of(ask("request", {"8"})).empty());
  entry = {};
  BOOST_TEST(ask("streams").at("result").at("streams").as_array().empty());
}

BOOST_AUTO_TEST_CASE(events_go_on_after_a_number_and_errors_keep_problems) {
  const auto time = std::chrono::system_clock::now();
  sources.events->add(time, event_level::warning, "careful");
  for (int i = 0; i < 2000; ++i) sources.events->add(time, event_level::info, "line");
  BOOST_TEST(ask("events").at("result").at("events").as_array().size() == 50U);
  const auto after = ask("events", {}, {{"after", "1999"}}).at("result").at("events").as_array();
  BOOST_REQUIRE_EQUAL(after.size(), 2U);
  BOOST_TEST((after[0].at("number") == 2000));
  const auto log = ask("errors").at("result").at("log").as_array();
  BOOST_REQUIRE_EQUAL(log.size(), 1U);
  BOOST_TEST((log[0].at("text") == "careful"));
}

BOOST_AUTO_TEST_CASE(failed_actors_are_listed_with_their_reason) {
  auto& slot = add(5, "worker");
  inspected->table.ended(slot, "runtime_error(\"the engine broke\")");
  const auto failures = ask("errors").at("result").at("failures").as_array();
  BOOST_REQUIRE_EQUAL(failures.size(), 1U);
  BOOST_TEST((failures[0].at("name") == "worker"));
}

BOOST_AUTO_TEST_CASE(malformed_requests_are_refused) {
  for (const auto& request : std::vector<json::object>{
           {},
           {{"command", 1}},
           {{"command", "ps"}, {"arguments", "x"}},
           {{"command", "ps"}, {"arguments", {1}}},
           {{"command", "ps"}, {"options", json::array{}}},
           {{"command", "ps"}, {"options", {{"by", 1}}}},
           {{"command", "ps"}, {"write", "yes"}},
           {{"command", std::string(10'000, 'x')}},
           {{"command", "ps"}, {"arguments", json::array(17, "x")}},
       })
    BOOST_TEST(error_of(reply_to(request).now).find("malformed") != std::string::npos,
               json::serialize(request));
  BOOST_TEST(error_of(ask("nonsense\n")).find("no command nonsense?") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(nothing_acts_without_write_or_through_tcp_and_each_attempt_is_audited) {
  BOOST_TEST(error_of(ask("drain")).find("--write") != std::string::npos);
  BOOST_REQUIRE_EQUAL(audited.size(), 1U);
  BOOST_TEST(audited[0].find("uid 1000 (pid 42): drain") != std::string::npos, audited[0]);
  BOOST_TEST(audited[0].find("refused") != std::string::npos);
  const auto tcp = reply_to({{"command", "drain"}, {"write", true}}, console::peer{});
  BOOST_TEST(error_of(tcp.now).find("local socket") != std::string::npos);
  BOOST_TEST(audited.size() == 2U);
  BOOST_TEST(drains.empty());
}

BOOST_AUTO_TEST_CASE(draining_is_confirmed_by_what_is_published) {
  const auto reply = reply_to({{"command", "drain"}, {"write", true}});
  BOOST_REQUIRE_EQUAL(drains.size(), 1U);
  BOOST_TEST(drains[0]);
  BOOST_TEST(!reply.now.at("result").at("done").as_bool());
  BOOST_TEST(!reply.later().has_value());
  facts.draining = true;
  const auto done = reply.later();
  BOOST_REQUIRE(done.has_value());
  BOOST_TEST(done->at("result").at("done").as_bool());
  BOOST_TEST((done->at("node").at("state") == "draining"));
  BOOST_TEST(audited.back().find("drain : accepted") != std::string::npos, audited.back());
}

BOOST_AUTO_TEST_CASE(cancel_goes_to_the_router_and_is_confirmed_by_the_board) {
  auto record = std::make_shared<stream_record>();
  record->request = 7;
  auto entry = stream_board::add(sources.streams, record);
  const auto reply = reply_to({{"command", "cancel"}, {"arguments", {"7"}}, {"write", true}});
  BOOST_REQUIRE(cancelled == std::vector<std::uint64_t>{7});
  BOOST_TEST(!reply.later().has_value());
  entry = {};
  BOOST_TEST(reply.later().has_value());
  BOOST_TEST(!error_of(reply_to({{"command", "cancel"}, {"arguments", {"7"}}, {"write", true}}).now).empty());
}

BOOST_AUTO_TEST_CASE(restart_is_for_supervised_actors_only) {
  add(1, "router");
  const auto answer = reply_to({{"command", "restart"}, {"arguments", {"router"}}, {"write", true}}).now;
  BOOST_TEST(error_of(answer).find("nobody would start router again") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(log_levels_are_checked) {
  const auto set = [&](const char* level) {
    return reply_to({{"command", "loglevel"}, {"arguments", {level}}, {"write", true}}).now;
  };
  BOOST_TEST(set("debug").at("result").at("done").as_bool());
  BOOST_TEST(error_of(set("loud")).find("loud is no level") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(latency_is_of_all_nodes_or_one) {
  BOOST_TEST(ask("latency").at("result").at("latency").as_array().size() == 2U);
  const auto one = ask("latency", {"n2"}).at("result").at("latency").as_array();
  BOOST_REQUIRE_EQUAL(one.size(), 1U);
  BOOST_TEST((one[0].at("round_trip_us").as_double() == 250.0));
  BOOST_TEST(!error_of(ask("latency", {"n9"})).empty());
}

BOOST_AUTO_TEST_CASE(a_source_that_is_absent_takes_its_commands_out_of_help) {
  const auto names = [&] {
    std::string all;
    const auto hello = dispatcher->hello();
    for (const auto& c : hello.at("commands").as_array()) all += std::string(c.at("name").as_string()) + " ";
    return all;
  };
  dispatcher.emplace(sources);
  BOOST_TEST(names().find("streams ") != std::string::npos);
  BOOST_TEST(names().find("drain ") != std::string::npos);
  sources.streams = nullptr;
  sources.drain = nullptr;
  dispatcher.emplace(sources);
  BOOST_TEST(names().find("streams ") == std::string::npos);
  BOOST_TEST(names().find("cancel ") == std::string::npos);
  BOOST_TEST(names().find("drain ") == std::string::npos);
  BOOST_TEST(!error_of(ask("streams")).empty());
}

BOOST_AUTO_TEST_SUITE_END()
