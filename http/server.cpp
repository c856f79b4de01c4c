#include "http/server.hpp"

#include "http/http_thread.hpp"
#include "http/listener.hpp"

#include <fmt/format.h>

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <latch>
#include <mutex>
#include <thread>
#include <utility>

namespace bitnet::http {

namespace {

/// Descriptors for everything but connections: files, pipes to workers, event loops, other sockets.
constexpr std::size_t other_descriptors = 64;

std::size_t limit_connections(const server_options& options) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY)
    return options.max_connections;
  const auto taken = other_descriptors + options.probe_reserve + 8 * options.threads;
  const auto available = files.rlim_cur > taken ? files.rlim_cur - taken : 1;
  return std::min<std::size_t>(options.max_connections, available);
}

std::string check(const server_options& options) {
  if (options.threads == 0 || options.threads > 256) {
    return fmt::format("http.threads is {}; it must be 1 to 256", options.threads);
  }
  if (options.max_connections == 0) return "the limit of HTTP connections is 0; it must be at least 1";
  if (options.limits.header_bytes < 256 || options.limits.header_bytes > 1024 * 1024) {
    return fmt::format("the limit of a request's header is {} bytes; it must be 256 to 1048576",
                       options.limits.header_bytes);
  }
  for (const auto& route : options.routes) {
    if (route.method.empty() || !route.pattern.starts_with('/')) {
      return fmt::format("the route '{} {}' needs a method and a pattern that starts with '/'", route.method,
                         route.pattern);
    }
  }
  return {};
}

void lower(std::atomic<effective_priority>& least, effective_priority mine) noexcept {
  auto known = least.load();
  while (known < mine && !least.compare_exchange_weak(known, mine)) {
  }
}

}  // namespace

struct server::state {
  std::shared_ptr<server_shared> shared;
  std::uint16_t port = 0;
  std::vector<std::shared_ptr<http_thread>> threads;
  std::mutex stopping;  ///< stop() may be called by several threads
  std::vector<std::thread> running;
  std::atomic<effective_priority> priority{effective_priority::real_time};
};

tl::expected<std::unique_ptr<server>, std::string> server::start(server_options options,
                                                                 const probe_source& probes,
                                                                 api_service& api) {
  if (auto problem = check(options); !problem.empty()) return tl::make_unexpected(std::move(problem));
  auto access = access_control::create(options.access);
  if (!access) return tl::make_unexpected(std::move(access.error()));
  std::shared_ptr<const tls_context> tls;
  if (!options.tls_certificate.empty()) {
    auto loaded = tls_context::load(options.tls_certificate, options.tls_key);
    if (!loaded) return tl::make_unexpected(std::move(loaded.error()));
    tls = std::move(*loaded);
  }
  auto listeners = open_listeners(options.address, options.port, options.threads);
  if (!listeners) return tl::make_unexpected(std::move(listeners.error()));
  try {
    const auto limit = limit_connections(options);
    auto s = std::make_unique<state>();
    s->port = listeners->port;
    s->shared = std::make_shared<server_shared>(std::move(options), probes, api, std::move(*access),
                                                std::move(tls), limit);
    for (auto& listener : listeners->sockets) {
      s->threads.push_back(std::make_shared<http_thread>(s->shared, std::move(listener), listeners->ipv6));
    }
    std::unique_ptr<server> result{new server{std::move(s)}};
    const auto prioritised = std::make_shared<std::latch>(std::ssize(result->state_->threads));
    for (std::size_t i = 0; i < result->state_->threads.size(); ++i) {
      // From here on the server's destructor joins what has been started.
      auto& started = result->state_->running.emplace_back(
          [t = result->state_->threads[i], &least = result->state_->priority, prioritised] {
            lower(least, apply(t->options().priority));
            prioritised->count_down();
            t->run();
          });
      pthread_setname_np(started.native_handle(), fmt::format("http-{}", i).c_str());
    }
    prioritised->wait();
    return result;
  } catch (const std::exception& error) {
    return tl::make_unexpected(
        fmt::format("cannot start the HTTP threads: {}; lower http.threads or raise the limit "
                    "of threads and descriptors",
                    error.what()));
  }
}

server::server(std::unique_ptr<state> s) : state_{std::move(s)} {}

server::~server() {
  stop(std::chrono::milliseconds{0});
}

std::uint16_t server::port() const noexcept {
  return state_->port;
}

effective_priority server::priority() const noexcept {
  return state_->priority.load();
}

std::size_t server::connection_limit() const noexcept {
  return state_->shared->connection_limit;
}

tl::expected<void, std::string> server::reload() {
  // All or nothing: the certificate is read first, and used only once the keys are in force.
  auto& shared = *state_->shared;
  std::shared_ptr<const tls_context> tls;
  if (!shared.options.tls_certificate.empty()) {
    auto loaded = tls_context::load(shared.options.tls_certificate, shared.options.tls_key);
    if (!loaded) return tl::make_unexpected(std::move(loaded.error()));
    tls = std::move(*loaded);
  }
  if (auto read = shared.access->reload(); !read) return read;
  if (tls) std::atomic_store(&shared.tls, std::move(tls));
  return {};
}

bool server::requires_key() const noexcept {
  return state_->shared->access->has_keys();
}

std::optional<std::chrono::system_clock::time_point> server::certificate_expires() const {
  const auto tls = std::atomic_load(&state_->shared->tls);
  if (!tls) return std::nullopt;
  return tls->expires();
}

void server::begin_drain() noexcept {
  state_->shared->draining.store(true, std::memory_order_relaxed);
}

void server::stop(std::chrono::milliseconds grace) {
  const std::lock_guard lock{state_->stopping};
  if (state_->running.empty()) return;
  // Only those that run: fewer than there are, where start() failed half-way.
  for (std::size_t i = 0; i < state_->running.size(); ++i) state_->threads[i]->stop(grace);
  for (auto& thread : state_->running) thread.join();
  state_->running.clear();
}

std::chrono::milliseconds server::silence() {
  std::chrono::milliseconds longest{0};
  for (const auto& thread : state_->threads) longest = std::max(longest, thread->silence());
  return longest;
}

http_statistics server::statistics() const noexcept {
  http_statistics sum;
  for (const auto& thread : state_->threads) {
    const auto& c = thread->counters();
    sum.connections_open += c.connections_open.load(std::memory_order_relaxed);
    sum.connections_total += c.connections_total.load(std::memory_order_relaxed);
    sum.connections_refused += c.connections_refused.load(std::memory_order_relaxed);
    sum.requests_total += c.requests_total.load(std::memory_order_relaxed);
    sum.protocol_errors_total += c.protocol_errors_total.load(std::memory_order_relaxed);
  }
  return sum;
}

}  // namespace bitnet::http
