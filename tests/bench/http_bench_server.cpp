// The HTTP front end with fixed answers, for scripts/bench-http: what the front end alone can do.
// Usage: http_bench_server THREADS SECONDS; prints the port, serves for so long, and ends.
#include "http/server.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>

namespace {

using namespace bitnet::http;

class fixed_probes final : public probe_source {
 public:
  void append_answer(probe, bool head, bool keep_alive, std::string& out) const override {
    static constexpr std::string_view body = R"({"status":"healthy","timestamp":"2026-01-01T00:00:00.000Z"})";
    static const auto kept = render(body, "keep-alive");
    static const auto closed = render(body, "close");
    out += keep_alive ? kept : closed;
    if (!head) out += body;
  }

 private:
  static std::string render(std::string_view body, std::string_view connection) {
    return fmt::format(
        "HTTP/1.1 200 OK\r\nServer: bitnet-server\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        "Content-Type: application/json\r\nContent-Length: {}\r\nConnection: {}\r\n"
        "Cache-Control: no-store\r\n\r\n",
        body.size(), connection);
  }
};

/// Answers at once with what was sent.
class echo_api final : public api_service {
 public:
  std::unique_ptr<api_exchange> start(api_request request, std::shared_ptr<response_writer> writer) override {
    writer->respond(200, {}, std::move(request.body));
    return nullptr;
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: http_bench_server THREADS SECONDS\n", stderr);
    return 2;
  }
  const fixed_probes probes;
  echo_api api;
  server_options options;
  options.port = 0;
  options.threads = static_cast<unsigned>(std::strtoul(argv[1], nullptr, 10));
  options.routes = {{"POST", "/echo"}, {"GET", "/echo"}};
  auto server = server::start(std::move(options), probes, api);
  if (!server) {
    std::fprintf(stderr, "%s\n", server.error().c_str());
    return 1;
  }
  std::printf("%u\n", static_cast<unsigned>((*server)->port()));
  std::fflush(stdout);
  std::this_thread::sleep_for(std::chrono::seconds{std::strtol(argv[2], nullptr, 10)});
  (*server)->stop(std::chrono::milliseconds{100});
  return 0;
}
