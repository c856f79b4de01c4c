#include "server_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<long> allocations{0};
}

// The sanitizers bring their own operator new, and lose sight of mismatches if it is replaced.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr bool counts_allocations = true;

// GCC 12 looks through the inlined pair below and takes malloc and free for a mismatch of operator new.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

void* operator new(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* const p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc{};
}

void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
#else
constexpr bool counts_allocations = false;
#endif

using namespace bitnet::http;
using namespace bitnet::http::test;

namespace {

/// Asks and receives without a heap allocation on this side.
bool ask_raw(int socket, std::size_t answer_size) {
  if (::send(socket, live_request.data(), live_request.size(), MSG_NOSIGNAL) < 0) return false;
  char buffer[4096];
  for (std::size_t received = 0; received < answer_size;) {
    const auto n = ::recv(socket, buffer, sizeof buffer, 0);
    if (n <= 0) return false;
    received += static_cast<std::size_t>(n);
  }
  return true;
}

/// Answers without formatting, as the snapshot does.
class copied_probes final : public probe_source {
 public:
  void append_answer(probe, bool, bool, std::string& out) const override { out += answer; }
  const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlive";
};

}  // namespace

BOOST_AUTO_TEST_SUITE(probe_allocation)

BOOST_AUTO_TEST_CASE(probes_on_an_established_connection_allocate_nothing) {
  if (!counts_allocations) {
    BOOST_TEST_MESSAGE("skipped: a sanitizer owns the allocator");
    return;
  }
  const copied_probes probes;
  fake_api api;
  server_options options;
  options.port = 0;
  options.threads = 1;
  const auto server = server::start(options, probes, api);
  BOOST_REQUIRE(server.has_value());
  test_client client{(*server)->port()};
  for (int i = 0; i < 100; ++i) BOOST_REQUIRE(ask_raw(client.descriptor(), probes.answer.size()));
  const auto before = allocations.load();
  bool ok = true;
  for (int i = 0; i < 1000; ++i) ok = ok && ask_raw(client.descriptor(), probes.answer.size());
  const auto made = allocations.load() - before;
  BOOST_TEST(ok);
  BOOST_TEST(made == 0);
  // The counter counts: the general parser does allocate.
  BOOST_TEST(status_of(client.ask("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")) == 404U);
  BOOST_TEST(allocations.load() > before);
}

BOOST_AUTO_TEST_SUITE_END()
