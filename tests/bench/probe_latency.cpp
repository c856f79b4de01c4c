// Asks the probes of a server on a fresh connection each, at a fixed rate, and prints how long each took from
// connect to the last byte of the answer. Usage: probe_latency PORT SECONDS INTERVAL_US [first]
// `first`: the client itself runs with a real-time priority (needs CAP_SYS_NICE), so that the figures hold
// the server's waits for a core and not the client's own.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

constexpr std::array<std::string_view, 3> paths{"/health/live", "/health/ready", "/health"};

struct series {
  std::vector<double> microseconds;
  std::uint64_t errors = 0;
};

/// One exchange on a connection of its own; false unless it ends in a whole 200.
bool ask(const sockaddr_in& address, std::string_view path) {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (s < 0) return false;
  const timeval limit{1, 0};  // as the kubelet's default
  ::setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  std::string answer;
  bool ended = false;
  if (::connect(s, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    const auto request =
        "GET " + std::string{path} + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    if (::send(s, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size())) {
      std::array<char, 8192> buffer;
      for (;;) {
        const auto size = ::recv(s, buffer.data(), buffer.size(), 0);
        if (size > 0) {
          answer.append(buffer.data(), static_cast<std::size_t>(size));
          continue;
        }
        ended = size == 0;
        break;
      }
    }
  }
  ::close(s);
  return ended && answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('}');
}

void print(std::string_view path, series& s) {
  auto& all = s.microseconds;
  std::sort(all.begin(), all.end());
  const auto at = [&](double part) {
    return all.empty() ? 0.0 : all[static_cast<std::size_t>(part * static_cast<double>(all.size() - 1))];
  };
  std::printf(
      "%-14s p50 %6.0f us   p99 %6.0f us   p99.9 %6.0f us   max %6.0f us   %6zu answers   errors %llu\n",
      std::string{path}.c_str(), at(0.5), at(0.99), at(0.999), at(1), all.size(),
      static_cast<unsigned long long>(s.errors));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: probe_latency PORT SECONDS INTERVAL_US [first]\n");
    return 2;
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(argv[1])));
  const auto seconds = std::chrono::seconds{std::atoi(argv[2])};
  const auto interval = std::chrono::microseconds{std::atoi(argv[3])};
  if (argc > 4 && std::strcmp(argv[4], "first") == 0) {
    sched_param priority{};
    priority.sched_priority = 10;
    if (::sched_setscheduler(0, SCHED_FIFO, &priority) != 0) {
      std::perror("probe_latency: first");
      return 3;
    }
  }
  std::array<series, paths.size()> results;
  const auto end = clock_type::now() + seconds;
  auto next = clock_type::now();
  for (std::size_t i = 0; clock_type::now() < end; ++i) {
    auto& result = results[i % paths.size()];
    const auto start = clock_type::now();
    if (ask(address, paths[i % paths.size()])) {
      result.microseconds.push_back(
          std::chrono::duration<double, std::micro>(clock_type::now() - start).count());
    } else {
      ++result.errors;
    }
    next = std::max(next + interval, clock_type::now());
    std::this_thread::sleep_until(next);
  }
  for (std::size_t i = 0; i < paths.size(); ++i) print(paths[i], results[i]);
  return 0;
}
