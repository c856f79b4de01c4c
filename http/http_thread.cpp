#include "http/http_thread.hpp"

#include "http/answer.hpp"
#include "http/session.hpp"

#include <boost/asio/post.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <thread>
#include <utility>

namespace bitnet::http {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

/// Connections accepted before the established ones get their turn.
constexpr int accepts_in_a_row = 16;

/// Descriptors kept in hand for probes that come when the process has no others left.
constexpr std::size_t spare_descriptors = 4;

constexpr std::chrono::milliseconds accept_backoff{50};

/// Requests are dense when one comes and is answered within this time after a thread had nothing to do.
constexpr std::chrono::microseconds dense_gap{30};

/// How long dense requests are gathered. Measured with scripts/bench-http: 10 us are too short to save
/// anything, 50 us leave clients waiting.
constexpr std::chrono::microseconds gathering{25};

/// Sends a 503 to a connection that is turned away unread, as far as its send buffer takes it.
void turn_away(const unique_descriptor& descriptor) {
  const auto body = error_body(
      {503, "too_many_connections", "The server has reached its limit of connections; try again later."});
  const header_list headers{{"Retry-After", "1"}, {"Cache-Control", "no-store"}};
  response_head head;
  head.status = 503;
  head.headers = &headers;
  head.content_length = body.size();
  head.keep_alive = false;
  std::string answer;
  append_head(head, answer);
  answer += body;
  static_cast<void>(::send(descriptor.get(), answer.data(), answer.size(), MSG_NOSIGNAL));
}

unique_descriptor open_spare() {
  return unique_descriptor{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
}

/// Errors that accept(2) reports for the connection it took off the queue; the next one may be fine.
bool concerns_one_connection(int error) {
  switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPERM:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EOPNOTSUPP:
      return true;
    default:
      return false;
  }
}

session& session_of(session_link& link) {
  return static_cast<session&>(link);
}

std::string describe_peer(const sockaddr_storage& peer) {
  char text[INET6_ADDRSTRLEN] = "";
  if (peer.ss_family == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(peer).sin6_addr, text, sizeof text);
  } else {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(peer).sin_addr, text, sizeof text);
  }
  return text;
}

std::chrono::milliseconds choose_tick(const connection_limits& limits) {
  const auto shortest = std::min({limits.header_timeout, limits.body_timeout, limits.idle_timeout,
                                  limits.write_timeout, limits.linger_timeout});
  return std::clamp(shortest / 4, std::chrono::milliseconds{5}, std::chrono::milliseconds{250});
}

}  // namespace

http_thread::http_thread(std::shared_ptr<server_shared> shared, unique_descriptor listener, bool ipv6)
    : shared_{std::move(shared)},
      environment_{shared_->options.limits, shared_->options.routes, shared_->probes, shared_->api,
                   *shared_->access,        shared_->options.log,    counters_,       shared_->draining},
      work_{context_.get_executor()},
      protocol_{ipv6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4()},
      acceptor_{context_},
      tick_timer_{context_},
      backoff_timer_{context_},
      stop_timer_{context_},
      tick_period_{choose_tick(shared_->options.limits)} {
  spares_.reserve(spare_descriptors);
  refill_spares();
  acceptor_.assign(protocol_, listener.get());
  listener.release();
  acceptor_.non_blocking(true);
  wait_for_connections();
}

http_thread::~http_thread() = default;

void http_thread::run() noexcept {
  // Or the kernel makes a short sleep three times as long.
  ::prctl(PR_SET_TIMERSLACK, 1'000UL);
  for (;;) {
    try {
      serve();
      return;
    } catch (...) {
      // Sessions guard themselves; what gets here is a failed allocation in between. The loop goes on.
    }
  }
}

/// Serves until there is nothing left to serve. Where requests follow each other closely, those of a moment
/// are gathered and answered together, as network cards moderate their interrupts: to be woken for each costs
/// us, and even more the client that wakes us. Who asks alone, or now and then, never waits for that.
void http_thread::serve() {
  bool dense = false;
  while (!context_.stopped()) {
    if (context_.poll() != 0) {
      if (dense) std::this_thread::sleep_for(gathering);
      continue;
    }
    const auto before = clock::now();
    context_.run_one();
    dense = clock::now() - before < dense_gap;
  }
}

void http_thread::wait_for_connections() {
  acceptor_.async_wait(asio::socket_base::wait_read, [this](const error_code& error) {
    if (stopping_) return;
    if (error) {
      back_off();
    } else {
      accept_connections();
    }
  });
}

void http_thread::accept_connections() {
  for (int i = 0; i < accepts_in_a_row; ++i) {
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    unique_descriptor descriptor{::accept4(acceptor_.native_handle(), reinterpret_cast<sockaddr*>(&peer),
                                           &length, SOCK_NONBLOCK | SOCK_CLOEXEC)};
    const int error = descriptor ? 0 : errno;
    if (error == EAGAIN) {
      wait_for_connections();
      return;
    }
    if (descriptor) {
      try_admit(std::move(descriptor), peer, false);
    } else if ((error == EMFILE || error == ENFILE) && accept_without_descriptors()) {
      continue;
    } else if (!concerns_one_connection(error)) {
      back_off();
      return;
    }
  }
  // Others first; the listener is asked again right after.
  asio::post(context_, [this] {
    if (!stopping_) accept_connections();
  });
}

/// Makes room for the next accept, or takes a waiting connection in the place of a spare descriptor, for
/// probes: a server out of descriptors still tells that it lives. False where neither is possible now.
bool http_thread::accept_without_descriptors() {
  if (evict_idle(false, shared_->options.eviction_idle_age)) return true;
  if (spares_.empty()) return evict_idle(true, std::chrono::milliseconds{0});
  spares_.pop_back();
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  unique_descriptor descriptor{::accept4(acceptor_.native_handle(), reinterpret_cast<sockaddr*>(&peer),
                                         &length, SOCK_NONBLOCK | SOCK_CLOEXEC)};
  if (!descriptor) return false;
  try_admit(std::move(descriptor), peer, true);
  return true;
}

void http_thread::refill_spares() noexcept {
  while (spares_.size() < spare_descriptors) {
    auto spare = open_spare();
    if (!spare) return;
    // Never beyond the capacity that the constructor reserved.
    spares_.push_back(std::move(spare));
  }
}

/// A connection that cannot be accepted keeps the listener readable: waiting for that would spin.
void http_thread::back_off() {
  backoff_timer_.expires_after(accept_backoff);
  backoff_timer_.async_wait([this](const error_code& error) {
    if (error || stopping_) return;
    refill_spares();
    accept_connections();
  });
}

void http_thread::try_admit(unique_descriptor descriptor, const sockaddr_storage& peer,
                            bool probes_only) noexcept {
  try {
    admit(std::move(descriptor), peer, probes_only);
  } catch (...) {
    thread_counters::add(counters_.connections_refused);
  }
}

void http_thread::admit(unique_descriptor descriptor, const sockaddr_storage& peer, bool probes_only) {
  auto& shared = *shared_;
  // Counted first and taken back: threads race for the last places.
  if (!probes_only &&
      shared.full_connections.fetch_add(1, std::memory_order_relaxed) >= shared.connection_limit &&
      !evict_idle(false, shared.options.eviction_idle_age)) {
    shared.full_connections.fetch_sub(1, std::memory_order_relaxed);
    probes_only = true;
  }
  if (probes_only &&
      shared.probe_connections.fetch_add(1, std::memory_order_relaxed) >= shared.options.probe_reserve &&
      !evict_idle(true, std::chrono::milliseconds{0})) {
    shared.probe_connections.fetch_sub(1, std::memory_order_relaxed);
    thread_counters::add(counters_.connections_refused);
    if (shared.options.tls_certificate.empty()) turn_away(descriptor);
    return;
  }
  auto& count = probes_only ? shared.probe_connections : shared.full_connections;
  std::shared_ptr<session> fresh;
  try {
    socket_type socket{context_};
    socket.assign(protocol_, descriptor.get());
    descriptor.release();
    socket.non_blocking(true);
    fresh =
        std::make_shared<session>(shared_from_this(), std::move(socket), shared.tls_in_force(), probes_only);
    fresh->prepare(describe_peer(peer));
  } catch (...) {
    count.fetch_sub(1, std::memory_order_relaxed);
    throw;
  }
  sessions_.push_back(*fresh);
  thread_counters::add(counters_.connections_total);
  thread_counters::add(counters_.connections_open);
  arm_tick();
  fresh->start();
}

void http_thread::remove(session& s) noexcept {
  sessions_.erase(sessions_.iterator_to(s));
  refill_spares();
  counters_.connections_open.store(sessions_.size(), std::memory_order_relaxed);
  if (stopping_ && sessions_.empty()) {
    stop_timer_.cancel();
    tick_timer_.cancel();
  }
  (s.probes_only() ? shared_->probe_connections : shared_->full_connections)
      .fetch_sub(1, std::memory_order_relaxed);
}

/// Closes this thread's longest-idle connection. For probe connections, one still without its request counts
/// as idle: whoever holds one open without asking makes room for those who ask.
bool http_thread::evict_idle(bool probes_only, std::chrono::milliseconds age) {
  const auto now = clock::now();
  session* oldest = nullptr;
  for (auto& link : sessions_) {
    auto& candidate = session_of(link);
    const auto& protocol = candidate.protocol();
    if (candidate.probes_only() != probes_only || now - protocol.last_activity() < age) continue;
    if (probes_only ? !protocol.output().empty() : !protocol.idle()) continue;
    if (oldest == nullptr || protocol.last_activity() < oldest->protocol().last_activity())
      oldest = &candidate;
  }
  if (oldest == nullptr) return false;
  oldest->close();
  return true;
}

void http_thread::arm_tick() {
  if (tick_armed_) return;
  tick_armed_ = true;
  tick_timer_.expires_after(tick_period_);
  tick_timer_.async_wait([this](const error_code& error) {
    tick_armed_ = false;
    if (!error) tick();
  });
}

void http_thread::tick() {
  const auto now = clock::now();
  for (auto i = sessions_.begin(); i != sessions_.end();) {
    // A session that closes leaves the list.
    auto& current = session_of(*i++);
    current.tick(now);
  }
  if (!sessions_.empty()) arm_tick();
}

std::chrono::milliseconds http_thread::silence() {
  const auto now = clock::now();
  if (!answered_.load(std::memory_order_acquire))
    return std::chrono::duration_cast<std::chrono::milliseconds>(now - asked_);
  asked_ = now;
  answered_.store(false, std::memory_order_relaxed);
  asio::post(context_,
             [self = shared_from_this()] { self->answered_.store(true, std::memory_order_release); });
  return std::chrono::milliseconds{0};
}

void http_thread::stop(std::chrono::milliseconds grace) {
  asio::post(context_, [self = shared_from_this(), grace] { self->begin_stop(grace); });
}

void http_thread::begin_stop(std::chrono::milliseconds grace) {
  if (stopping_) return;
  stopping_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  backoff_timer_.cancel();
  work_.reset();
  for (auto i = sessions_.begin(); i != sessions_.end();) {
    auto& current = session_of(*i++);
    current.finish();
  }
  if (sessions_.empty()) {
    tick_timer_.cancel();
    return;
  }
  stop_timer_.expires_after(grace);
  stop_timer_.async_wait([this](const error_code& error) {
    if (!error) close_all();
  });
}

void http_thread::close_all() {
  while (!sessions_.empty()) session_of(sessions_.front()).close();
}

}  // namespace bitnet::http
