#include "actors/console/endpoint.hpp"

#include "actors/console/frames.hpp"
#include "actors/console/listening_socket.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

using namespace bitnet::console;
using namespace std::chrono_literals;
namespace json = boost::json;

namespace {

/// A console by hand. Reads time out after 10 s: a test that waits for nothing fails.
class raw_client {
 public:
  explicit raw_client(const std::string& path) {
    auto fd = connect_unix(path, 10'000);
    BOOST_REQUIRE_MESSAGE(fd, (fd ? "" : fd.error()));
    fd_ = std::move(*fd);
  }

  void send_bytes(const std::string& bytes) {
    std::size_t sent = 0;
    while (sent < bytes.size()) {
      const auto n = ::send(fd_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;  // the server has closed: what the test looks for comes from `receive`
      sent += static_cast<std::size_t>(n);
    }
  }
  void send_object(const json::object& o) { send_bytes(encode_frame(json::serialize(o))); }

  /// Nothing where the server closed the connection.
  std::optional<json::object> receive() {
    for (;;) {
      if (const auto payload = in_.next()) return json::parse(*payload).as_object();
      char bytes[4096];
      const auto got = recv(fd_.get(), bytes, sizeof bytes, 0);
      if (got < 0 && errno == EAGAIN) BOOST_FAIL("nothing came within 10 s");
      if (got <= 0) return std::nullopt;
      in_.feed({bytes, static_cast<std::size_t>(got)});
    }
  }
  /// After the server's hello and ours.
  raw_client& greet() {
    BOOST_REQUIRE(receive().has_value());
    send_object({{"protocol", protocol_version}});
    return *this;
  }
  std::string code_of_error() {
    const auto answer = receive();
    return answer && answer->contains("error") ? std::string(answer->at("error").at("code").as_string()) : "";
  }

 private:
  descriptor fd_;
  frame_reader in_{max_answer_bytes};
};

struct fixture {
  std::filesystem::path directory;
  endpoint_options options;
  endpoint::handler handler = [](const json::object& request, const peer&) {
    return reply{{{"command", "echo"}, {"request", request}}, nullptr, {}};
  };
  std::unique_ptr<endpoint> running;

  fixture() {
    std::string pattern = (std::filesystem::temp_directory_path() / "console-XXXXXX").string();
    directory = mkdtemp(pattern.data());
    options.socket_path = (directory / "run" / "console.sock").string();
  }
  ~fixture() {
    running.reset();
    std::filesystem::remove_all(directory);
  }
  void start() {
    auto started = endpoint::start(options, {{"node", "test"}}, handler);
    BOOST_REQUIRE_MESSAGE(started, (started ? "" : started.error()));
    running = std::move(*started);
  }
  raw_client connect() { return raw_client(options.socket_path); }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(console_endpoint, fixture)

BOOST_AUTO_TEST_CASE(the_server_says_hello_and_answers_each_request) {
  start();
  auto c = connect();
  const auto hello = c.receive();
  BOOST_REQUIRE(hello.has_value());
  BOOST_TEST((hello->at("node") == "test"));
  BOOST_TEST((hello->at("protocol") == protocol_version));
  c.send_object({{"protocol", protocol_version}});
  for (int i = 0; i < 3; ++i) {
    c.send_object({{"command", "x"}, {"number", i}});
    const auto answer = c.receive();
    BOOST_REQUIRE(answer.has_value());
    BOOST_TEST((answer->at("request").at("number") == i));
  }
}

BOOST_AUTO_TEST_CASE(requests_sent_ahead_are_answered_in_order) {
  start();
  auto c = connect();
  std::string all = encode_frame(R"({"protocol":1})");
  constexpr int many = 2000;
  for (int i = 0; i < many; ++i) all += encode_frame(json::serialize(json::object{{"number", i}}));
  c.receive();
  c.send_bytes(all);
  for (int i = 0; i < many; ++i) {
    const auto answer = c.receive();
    BOOST_REQUIRE(answer.has_value());
    BOOST_REQUIRE(answer->at("request").at("number") == i);
  }
}

BOOST_AUTO_TEST_CASE(only_the_owner_may_open_the_socket_and_its_directory) {
  start();
  struct stat s {};
  BOOST_REQUIRE(stat(options.socket_path.c_str(), &s) == 0);
  BOOST_TEST((s.st_mode & 0777) == 0600U);
  BOOST_REQUIRE(stat((directory / "run").c_str(), &s) == 0);
  BOOST_TEST((s.st_mode & 0777) == 0700U);
}

BOOST_AUTO_TEST_CASE(the_peer_is_who_the_kernel_says) {
  handler = [](const json::object&, const peer& from) {
    return reply{
        {{"uid", from.user_id}, {"pid", from.process_id}, {"local", from.local_socket}}, nullptr, {}};
  };
  start();
  auto c = connect();
  c.greet().send_object({});
  const auto answer = c.receive();
  BOOST_REQUIRE(answer.has_value());
  BOOST_TEST(answer->at("uid").to_number<std::uint64_t>() == getuid());
  BOOST_TEST(answer->at("pid").to_number<std::int64_t>() == getpid());
  BOOST_TEST(answer->at("local").as_bool());
}

BOOST_AUTO_TEST_CASE(hostile_bytes_end_the_connection_with_a_reason_and_nothing_else) {
  start();
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  for (const auto& [bytes, code] : std::vector<std::pair<std::string, std::string>>{
           {"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "too_large"},
           {std::string("\xff\xff\xff\xff", 4), "too_large"},
           {encode_frame("not json"), "malformed"},
           {encode_frame("[]"), "malformed"},
           {encode_frame(std::string("\0\0", 2)), "malformed"},
           {encode_frame("{\"x\":" + deep + "}"), "malformed"},
           {encode_frame("{}"), "protocol"},
           {encode_frame(R"({"protocol":"1"})"), "protocol"},
           {encode_frame(R"({"protocol":2})"), "protocol"},
       }) {
    auto c = connect();
    BOOST_REQUIRE(c.receive().has_value());
    c.send_bytes(bytes);
    BOOST_TEST(c.code_of_error() == code);
    BOOST_TEST(!c.receive().has_value());
  }
  auto good = connect();
  good.greet().send_object({{"still", "serving"}});
  BOOST_TEST(good.receive().has_value());
}

BOOST_AUTO_TEST_CASE(a_console_that_says_nothing_is_closed) {
  options.hello_timeout = 30ms;
  start();
  auto c = connect();
  BOOST_TEST(c.receive().has_value());
  BOOST_TEST(!c.receive().has_value());
}

BOOST_AUTO_TEST_CASE(a_request_that_does_not_end_is_closed) {
  options.frame_timeout = 30ms;
  start();
  auto c = connect();
  c.greet().send_bytes(encode_frame("{}").substr(0, 5));
  BOOST_TEST(!c.receive().has_value());
}

BOOST_AUTO_TEST_CASE(a_console_that_takes_no_answer_is_closed_and_holds_up_nobody) {
  options.write_timeout = 50ms;
  handler = [](const json::object& request, const peer&) {
    return reply{{{"text", std::string(request.contains("large") ? 4'000'000 : 1, 'x')}}, nullptr, {}};
  };
  start();
  auto slow = connect();
  slow.greet().send_object({{"large", true}});
  auto other = connect();
  other.greet().send_object({});
  BOOST_TEST(other.receive().has_value());
  std::this_thread::sleep_for(200ms);  // past the time-out; nothing is asserted about how long it took
  BOOST_TEST(!slow.receive().has_value());
}

BOOST_AUTO_TEST_CASE(a_newcomer_takes_the_place_of_the_longest_idle) {
  options.max_connections = 2;
  start();
  auto first = connect();
  first.greet();
  auto second = connect();
  second.greet().send_object({});
  BOOST_TEST(second.receive().has_value());
  auto third = connect();
  third.greet().send_object({});
  BOOST_TEST(third.receive().has_value());
  BOOST_TEST(!first.receive().has_value());
  second.send_object({});
  BOOST_TEST(second.receive().has_value());
}

BOOST_AUTO_TEST_CASE(an_answer_that_comes_later_does_not_hold_up_others) {
  std::atomic<bool> ready{false};
  handler = [&](const json::object& request, const peer&) {
    if (!request.contains("slow")) return reply{{{"answer", "quick"}}, nullptr, {}};
    return reply{{{"answer", "gave up"}},
                 [&]() -> std::optional<json::object> {
                   if (!ready) return std::nullopt;
                   return json::object{{"answer", "done"}};
                 },
                 10s};
  };
  start();
  auto slow = connect();
  slow.greet().send_object({{"slow", true}});
  auto quick = connect();
  quick.greet().send_object({});
  BOOST_TEST((quick.receive().value().at("answer") == "quick"));
  ready = true;
  BOOST_TEST((slow.receive().value().at("answer") == "done"));
}

BOOST_AUTO_TEST_CASE(an_answer_that_never_comes_is_replaced_at_its_deadline) {
  handler = [](const json::object&, const peer&) {
    return reply{{{"answer", "gave up"}}, []() -> std::optional<json::object> { return std::nullopt; }, 50ms};
  };
  start();
  auto c = connect();
  c.greet().send_object({});
  BOOST_TEST((c.receive().value().at("answer") == "gave up"));
}

BOOST_AUTO_TEST_CASE(a_handler_that_throws_costs_one_answer) {
  handler = [](const json::object& request, const peer&) -> reply {
    if (request.contains("bad")) throw std::runtime_error("oh");
    return {{{"fine", true}}, nullptr, {}};
  };
  start();
  auto c = connect();
  c.greet().send_object({{"bad", 1}});
  BOOST_TEST(c.code_of_error() == "internal");
  c.send_object({});
  BOOST_TEST(c.receive().value().contains("fine"));
}

BOOST_AUTO_TEST_CASE(an_answer_above_the_limit_is_an_error) {
  handler = [](const json::object&, const peer&) {
    return reply{{{"text", std::string(max_answer_bytes, 'x')}}, nullptr, {}};
  };
  start();
  auto c = connect();
  c.greet().send_object({});
  BOOST_TEST(c.code_of_error() == "too_large");
}

BOOST_AUTO_TEST_CASE(a_dead_servers_socket_is_replaced_and_a_live_ones_is_not) {
  start();
  const auto second = endpoint::start(options, {}, handler);
  BOOST_REQUIRE(!second);
  BOOST_TEST(second.error().find("another server") != std::string::npos);
  running.reset();
  BOOST_TEST(!std::filesystem::exists(options.socket_path));
  { const auto left_behind = listen_unix(options.socket_path); }
  BOOST_REQUIRE(std::filesystem::exists(options.socket_path));
  start();
  auto c = connect();
  BOOST_TEST(c.receive().has_value());
}

BOOST_AUTO_TEST_CASE(a_file_in_the_way_and_an_open_directory_are_refused) {
  std::filesystem::create_directory(directory / "run");
  std::ofstream(options.socket_path) << "precious";
  BOOST_TEST(!endpoint::start(options, {}, handler));
  BOOST_TEST(std::filesystem::file_size(options.socket_path) == 8U);
  std::filesystem::remove(options.socket_path);
  std::filesystem::permissions(directory / "run", std::filesystem::perms::all);
  const auto open = endpoint::start(options, {}, handler);
  BOOST_REQUIRE(!open);
  BOOST_TEST(open.error().find("others") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(tcp_listens_on_loopback_only) {
  options.address = "127.0.0.1";
  start();
  BOOST_TEST(running->port() != 0);
  BOOST_TEST(connect_tcp("127.0.0.1", std::to_string(running->port()), 10'000).has_value());
  running.reset();
  for (const auto* address : {"0.0.0.0", "::", "192.0.2.1", "localhost"}) {
    options.address = address;
    BOOST_TEST(!endpoint::start(options, {}, handler), address);
  }
}

BOOST_AUTO_TEST_SUITE_END()
