#include "actors/console/endpoint.hpp"

#include "actors/console/frames.hpp"
#include "actors/console/listening_socket.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

namespace bitnet::console {

namespace json = boost::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr milliseconds poll_period{20};    ///< of answers that come later
constexpr milliseconds accept_pause{100};  ///< when descriptors have run out
constexpr std::size_t max_json_depth = 16;

json::object make_error(std::string_view code, std::string_view message) {
  return {{"schema", schema}, {"error", {{"code", code}, {"message", message}}}};
}

tl::expected<json::object, std::string> parse_object(const std::string& text) {
  json::error_code error;
  json::parse_options limits;
  limits.max_depth = max_json_depth;
  auto value = json::parse(text, error, {}, limits);
  if (error) return tl::unexpected("not JSON: " + error.message());
  if (!value.is_object()) return tl::unexpected(std::string{"not a JSON object"});
  return std::move(value.get_object());
}

struct connection {
  descriptor fd;
  peer from;
  std::size_t listener = 0;
  frame_reader in{max_request_bytes};
  std::string out;
  std::size_t sent = 0;
  bool greeted = false;
  bool closing = false;  ///< once `out` is sent
  bool broken = false;
  reply pending;  ///< while `pending.later`
  steady_clock::time_point answer_by{};
  steady_clock::time_point since{};  ///< of the state that a time-out bounds

  bool writing() const noexcept { return sent < out.size(); }
};

peer peer_of(const descriptor& fd, bool local) {
  peer p;
  p.local_socket = local;
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (local && getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
    p.user_id = credentials.uid;
    p.process_id = credentials.pid;
  }
  return p;
}

}  // namespace

std::string peer::describe() const {
  return local_socket ? fmt::format("uid {} (pid {})", user_id, process_id) : "tcp";
}

class endpoint::loop {
 public:
  loop(endpoint_options options, json::object hello, handler answer)
      : options_(std::move(options)), answer_(std::move(answer)) {
    hello["schema"] = schema;
    hello["protocol"] = protocol_version;
    hello_ = encode_frame(json::serialize(hello));
  }

  ~loop() {
    if (thread_.joinable()) {
      stop_ = true;
      const std::uint64_t one = 1;
      if (write(wake_.get(), &one, sizeof one) < 0) {
      }
      thread_.join();
    }
    if (!options_.socket_path.empty() && owns_path_) unlink(options_.socket_path.c_str());
  }

  tl::expected<void, std::string> listen() {
    wake_ = descriptor{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!wake_) return tl::unexpected(std::string{"console: no file descriptor left"});
    if (!options_.socket_path.empty()) {
      auto local = listen_unix(options_.socket_path);
      if (!local) return tl::unexpected(local.error());
      owns_path_ = true;
      listeners_.push_back({std::move(*local), true});
    }
    if (!options_.address.empty()) {
      auto tcp = listen_loopback(options_.address, options_.port);
      if (!tcp) return tl::unexpected(tcp.error());
      port_ = port_of(*tcp);
      listeners_.push_back({std::move(*tcp), false});
    }
    thread_ = std::thread([this] { run(); });
    return {};
  }

  std::uint16_t port() const noexcept { return port_; }
  const std::string& socket_path() const noexcept { return options_.socket_path; }

 private:
  struct listener {
    descriptor fd;
    bool local;
  };

  void run() {
    pthread_setname_np(pthread_self(), "console");
    while (!stop_) {
      std::vector<pollfd> watched{{wake_.get(), POLLIN, 0}};
      const bool accepting = steady_clock::now() >= accept_again_;
      for (const auto& l : listeners_) watched.push_back({l.fd.get(), short(accepting ? POLLIN : 0), 0});
      for (const auto& c : connections_) watched.push_back({c->fd.get(), wanted(*c), 0});
      poll(watched.data(), watched.size(), next_timeout());
      const auto first = 1 + listeners_.size();
      const auto known = connections_.size();
      for (std::size_t i = 0; i < known; ++i) serve(*connections_[i], watched[first + i].revents);
      for (std::size_t i = 0; i < listeners_.size(); ++i)
        if ((watched[1 + i].revents & POLLIN) != 0) accept_from(i);
      drop_finished();
    }
  }

  /// One a round for each connection, so that nobody who sends ahead keeps the others waiting.
  static bool has_request(const connection& c) {
    return !c.broken && !c.closing && !c.writing() && !c.pending.later && (c.in.ready() || c.in.oversized());
  }

  static short wanted(const connection& c) {
    // One request at a time: what a client sends ahead stays in its socket.
    if (c.writing()) return POLLOUT;
    return c.pending.later ? short(0) : short(POLLIN);
  }

  milliseconds limit(const connection& c) const {
    if (c.writing()) return options_.write_timeout;
    if (!c.greeted) return options_.hello_timeout;
    if (c.in.mid_frame()) return options_.frame_timeout;
    return options_.idle_timeout;
  }

  int next_timeout() const {
    auto soonest = steady_clock::time_point::max();
    const auto now = steady_clock::now();
    if (accept_again_ > now) soonest = accept_again_;
    for (const auto& c : connections_) {
      if (has_request(*c)) return 0;
      soonest = std::min(soonest, c->pending.later ? now + poll_period : c->since + limit(*c));
    }
    if (soonest == steady_clock::time_point::max()) return -1;
    const auto left = std::chrono::ceil<milliseconds>(soonest - now).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
  }

  void accept_from(std::size_t index) {
    descriptor fd{accept4(listeners_[index].fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!fd) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        accept_again_ = steady_clock::now() + accept_pause;
      return;
    }
    make_room(index);
    auto c = std::make_unique<connection>();
    c->from = peer_of(fd, listeners_[index].local);
    c->fd = std::move(fd);
    c->listener = index;
    c->out = hello_;
    c->since = steady_clock::now();
    connections_.push_back(std::move(c));
  }

  /// So that forgotten consoles do not lock the next one out.
  void make_room(std::size_t index) {
    std::size_t open = 0;
    connection* oldest = nullptr;
    for (const auto& c : connections_) {
      if (c->listener != index || c->broken) continue;
      ++open;
      if (oldest == nullptr || c->since < oldest->since) oldest = c.get();
    }
    if (open >= options_.max_connections) oldest->broken = true;
  }

  void serve(connection& c, short events) {
    if ((events & (POLLERR | POLLNVAL)) != 0) c.broken = true;
    if ((events & POLLHUP) != 0 && (c.writing() || c.pending.later)) c.broken = true;
    if (!c.broken && (events & POLLOUT) != 0) send_some(c);
    if (!c.broken && (events & (POLLIN | POLLHUP)) != 0 && !c.writing()) receive(c);
    if (has_request(c)) next_request(c);
    if (!c.broken && c.pending.later) check_pending(c);
    if (!c.broken && !c.pending.later && steady_clock::now() - c.since > limit(c)) c.broken = true;
  }

  void receive(connection& c) {
    char bytes[16384];
    const auto got = recv(c.fd.get(), bytes, sizeof bytes, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) c.broken = true;
    if (got <= 0) return;
    if (!c.in.mid_frame()) c.since = steady_clock::now();
    c.in.feed({bytes, static_cast<std::size_t>(got)});
  }

  void next_request(connection& c) {
    if (c.in.oversized()) {
      c.closing = true;
      respond(c, make_error("too_large", fmt::format("a request may have {} bytes", max_request_bytes)));
      return;
    }
    if (const auto payload = c.in.next()) take(c, *payload);
  }

  void take(connection& c, const std::string& payload) {
    const auto request = parse_object(payload);
    if (!request) {
      c.closing = true;
      respond(c, make_error("malformed", request.error()));
      return;
    }
    if (!c.greeted) {
      greet(c, *request);
      return;
    }
    try {
      c.pending = answer_(*request, c.from);
    } catch (const std::exception& problem) {
      c.pending = {make_error("internal", problem.what()), nullptr, {}};
    }
    c.answer_by = steady_clock::now() + c.pending.patience;
    if (!c.pending.later) respond(c, std::exchange(c.pending, {}).now);
  }

  void greet(connection& c, const json::object& request) {
    const auto* version = request.if_contains("protocol");
    if (version == nullptr || !version->is_int64() || version->get_int64() != protocol_version) {
      c.closing = true;
      respond(c, make_error("protocol", fmt::format("this server speaks version {} of the console's "
                                                    "protocol; use the bitnet-console that came with it",
                                                    protocol_version)));
      return;
    }
    c.greeted = true;
    c.since = steady_clock::now();
  }

  void check_pending(connection& c) {
    try {
      if (auto answer = c.pending.later()) {
        c.pending = {};
        respond(c, *answer);
        return;
      }
    } catch (const std::exception& problem) {
      c.pending = {};
      respond(c, make_error("internal", problem.what()));
      return;
    }
    if (steady_clock::now() >= c.answer_by) respond(c, std::exchange(c.pending, {}).now);
  }

  void respond(connection& c, const json::object& answer) {
    auto text = json::serialize(answer);
    if (text.size() > max_answer_bytes)
      text = json::serialize(make_error("too_large", "the answer is too large; ask for less of it"));
    c.out = encode_frame(text);
    c.sent = 0;
    c.since = steady_clock::now();
    send_some(c);
  }

  void send_some(connection& c) {
    while (c.writing()) {
      const auto taken = send(c.fd.get(), c.out.data() + c.sent, c.out.size() - c.sent, MSG_NOSIGNAL);
      if (taken < 0) {
        if (errno != EAGAIN && errno != EINTR) c.broken = true;
        return;
      }
      c.sent += static_cast<std::size_t>(taken);
      c.since = steady_clock::now();
    }
    c.out.clear();
    c.sent = 0;
    if (c.closing) c.broken = true;
  }

  void drop_finished() {
    std::erase_if(connections_, [](const auto& c) { return c->broken; });
  }

  endpoint_options options_;
  std::string hello_;
  handler answer_;
  descriptor wake_;
  std::vector<listener> listeners_;
  bool owns_path_ = false;
  std::uint16_t port_ = 0;
  std::vector<std::unique_ptr<connection>> connections_;
  steady_clock::time_point accept_again_{};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

endpoint::endpoint(std::unique_ptr<loop> running) : loop_(std::move(running)) {}
endpoint::~endpoint() = default;

tl::expected<std::unique_ptr<endpoint>, std::string> endpoint::start(endpoint_options options,
                                                                     json::object hello, handler answer) {
  auto running = std::make_unique<loop>(std::move(options), std::move(hello), std::move(answer));
  if (auto listening = running->listen(); !listening) return tl::unexpected(listening.error());
  return std::unique_ptr<endpoint>(new endpoint(std::move(running)));
}

std::uint16_t endpoint::port() const noexcept {
  return loop_->port();
}
const std::string& endpoint::socket_path() const noexcept {
  return loop_->socket_path();
}

}  // namespace bitnet::console
