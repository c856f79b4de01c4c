#include "http/probe_request.hpp"

#include "http/request_reader.hpp"

#include <boost/test/unit_test.hpp>

#include <array>
#include <random>
#include <string>

namespace {

using namespace bitnet::http;

std::size_t parse(std::string_view text) {
  probe_request out;
  return parse_probe_request(text, out);
}

/// What the general parser says about a request that is complete.
bool general_parser_agrees(std::string_view text, const probe_request& fast) {
  request_reader reader{16 * 1024, 1024};
  std::size_t consumed = 0;
  if (reader.put(text, consumed) != request_reader::step::header_done) return false;
  const auto& header = reader.header();
  static constexpr std::array targets = {"/health", "/health/live", "/health/ready", "/metrics"};
  return !header.has_body && !header.expects_continue && header.keep_alive == fast.keep_alive &&
         header.target == targets[static_cast<std::size_t>(fast.which)] &&
         header.method == (fast.head ? "HEAD" : "GET");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(probe_request_parser)

BOOST_AUTO_TEST_CASE(plain_probes_are_recognised_with_their_length) {
  const std::string request =
      "GET /health/ready HTTP/1.1\r\nHost: 10.1.2.3:8080\r\nUser-Agent: kube-probe/1.29\r\nAccept: "
      "*/*\r\n\r\n";
  probe_request out;
  BOOST_TEST(parse_probe_request(request + "GET /next", out) == request.size());
  BOOST_TEST((out.which == probe::ready));
  BOOST_TEST(!out.head);
  BOOST_TEST(out.keep_alive);
  BOOST_TEST(parse_probe_request("HEAD /metrics HTTP/1.1\r\nhost:x\r\nConnection:  Close \r\n\r\n", out) !=
             0U);
  BOOST_TEST((out.which == probe::metrics));
  BOOST_TEST(out.head);
  BOOST_TEST(!out.keep_alive);
}

BOOST_AUTO_TEST_CASE(every_proper_prefix_is_left_alone) {
  const std::string request = "GET /health HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
  for (std::size_t n = 0; n < request.size(); ++n) BOOST_TEST(parse(request.substr(0, n)) == 0U);
  BOOST_TEST(parse(request) == request.size());
}

BOOST_AUTO_TEST_CASE(everything_unusual_is_left_to_the_general_parser) {
  const std::string start = "GET /health HTTP/1.1\r\nHost: a\r\n";
  for (const auto* const line :
       {"Content-Length: 0", "CONTENT-LENGTH: 5", "Transfer-Encoding: chunked", "Expect: 100-continue",
        "Connection: upgrade", "Connection: close, x", "Upgrade: h2c", "Host: b", "Trailer: x",
        "TE: trailers", "Proxy-Connection: close", " folded: line", "name : value", ": empty", "no colon",
        "a: b\rc", "a: b\nc", "a: \x01", "a\x80: b"}) {
    BOOST_TEST(parse(start + line + "\r\n\r\n") == 0U, line);
  }
  BOOST_TEST(parse("GET /health HTTP/1.0\r\nHost: a\r\n\r\n") == 0U);
  BOOST_TEST(parse("GET /health HTTP/1.1\r\n\r\n") == 0U);
  BOOST_TEST(parse("GET /health?x HTTP/1.1\r\nHost: a\r\n\r\n") == 0U);
  BOOST_TEST(parse("POST /health HTTP/1.1\r\nHost: a\r\n\r\n") == 0U);
  BOOST_TEST(parse("GET /health HTTP/1.1\nHost: a\n\n") == 0U);
}

// A disagreement here would be a way to smuggle requests: two readings of the same bytes.
BOOST_AUTO_TEST_CASE(what_it_accepts_the_general_parser_reads_alike) {
  std::mt19937 random{7};
  const std::string alphabet = "aZ09:-_ \t\r\n,;\"\x01\x7f\x80\xff/%?";
  const std::array<std::string, 8> lines = {"Host: a",
                                            "Connection: close",
                                            "Connection: keep-alive",
                                            "Content-Length: 0",
                                            "Accept: */*",
                                            "Transfer-Encoding: chunked",
                                            "X: ",
                                            "user-agent: y"};
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string request =
        random() % 2 == 0 ? "GET /health/live HTTP/1.1\r\nHost: x\r\n" : "HEAD /metrics HTTP/1.1\r\n";
    for (auto n = random() % 4; n != 0; --n) request += lines[random() % lines.size()] + "\r\n";
    request += "\r\n";
    for (auto n = random() % 3; n != 0; --n) {
      const auto at = random() % request.size();
      const char c = alphabet[random() % alphabet.size()];
      if (random() % 2 == 0) {
        request[at] = c;
      } else {
        request.insert(at, 1, c);
      }
    }
    probe_request out;
    const auto length = parse_probe_request(request, out);
    if (length == 0) continue;
    ++accepted;
    BOOST_REQUIRE_MESSAGE(general_parser_agrees(request.substr(0, length), out), request);
  }
  BOOST_TEST(accepted > 1000);
}

BOOST_AUTO_TEST_SUITE_END()
