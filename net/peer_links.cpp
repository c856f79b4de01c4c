#include "net/peer_links.hpp"

#include "net/link.hpp"

#include <boost/asio/connect.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace bitnet::net {

namespace {

/// Time that sent frames get at the end.
constexpr std::chrono::milliseconds last_words{200};

struct split_address {
  std::string host;
  std::string port;
};

split_address split(const std::string& address) {
  const auto colon = address.rfind(':');
  if (colon == std::string::npos) return {};
  auto host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return {std::move(host), address.substr(colon + 1)};
}

tl::expected<std::shared_ptr<ssl::context>, std::string> load_context(const link_options& o) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls);
  boost::system::error_code e;
  const auto wrong = [&](const char* what, const std::string& file) {
    return tl::unexpected(fmt::format("{} '{}': {}", what, file, e.message()));
  };
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_3_VERSION);
  context->use_certificate_chain_file(o.certificate_file, e);
  if (e) return wrong("cluster.tls-certificate", o.certificate_file);
  context->use_private_key_file(o.key_file, ssl::context::pem, e);
  if (e) return wrong("cluster.tls-key", o.key_file);
  if (SSL_CTX_check_private_key(context->native_handle()) != 1)
    return tl::unexpected(
        fmt::format("cluster.tls-key '{}': is not the key of '{}'", o.key_file, o.certificate_file));
  context->load_verify_file(o.authority_file, e);
  if (e) return wrong("cluster.tls-ca", o.authority_file);
  context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
  // Sessions taken up again would not show a certificate.
  SSL_CTX_set_session_cache_mode(context->native_handle(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context->native_handle(), 0);
  return context;
}

}  // namespace

std::string host_part(const std::string& address) {
  return split(address).host;
}

/// Everything but `stopped` belongs to the thread.
struct peer_links::state : std::enable_shared_from_this<state>, link_owner {
  explicit state(link_options o) : options(std::move(o)) {}

  link_options options;
  asio::io_context context{1};
  asio::ip::tcp::acceptor acceptor{context};
  asio::ip::tcp::resolver resolver{context};
  asio::steady_timer pause{context};
  std::shared_ptr<ssl::context> tls;  ///< null: plaintext
  std::uint16_t port = 0;
  link_handler handler;
  std::thread thread;
  std::map<link_id, std::shared_ptr<link>> links;
  std::set<std::string> dialling;
  link_id last_id = 0;

  void accept();
  void add(asio::ip::tcp::socket socket, std::string dialled);
  void dial(const std::string& address);
  void resolve(const std::string& name, std::uint16_t to_port);
  tl::expected<void, std::string> listen();

  const link_options& limits() const override { return options; }
  const link_handler& callbacks() const override { return handler; }
  void gone(link_id id, const std::string& dialled) override {
    dialling.erase(dialled);
    links.erase(id);
  }
  void greeted(const std::string& dialled) override { dialling.erase(dialled); }
};

tl::expected<void, std::string> peer_links::state::listen() {
  boost::system::error_code e;
  const auto address = asio::ip::make_address(options.address, e);
  if (e) return tl::unexpected(fmt::format("cluster.address '{}' is no IP address", options.address));
  const asio::ip::tcp::endpoint endpoint(address, options.port);
  acceptor.open(endpoint.protocol(), e);
  if (!e) acceptor.set_option(asio::socket_base::reuse_address(true), e);
  if (!e) acceptor.bind(endpoint, e);
  if (!e) acceptor.listen(128, e);
  if (e)
    return tl::unexpected(fmt::format("cannot listen for other nodes on {} port {}: {}", options.address,
                                      options.port, e.message()));
  port = acceptor.local_endpoint().port();
  return {};
}

void peer_links::state::accept() {
  acceptor.async_accept(
      [self = shared_from_this()](boost::system::error_code e, asio::ip::tcp::socket socket) {
        if (e == asio::error::operation_aborted) return;
        if (e) {
          // Most likely no descriptor is left: try again when some may be.
          self->pause.expires_after(std::chrono::milliseconds(100));
          self->pause.async_wait([self](boost::system::error_code stopped) {
            if (!stopped) self->accept();
          });
          return;
        }
        self->add(std::move(socket), {});
        self->accept();
      });
}

void peer_links::state::add(asio::ip::tcp::socket socket, std::string dialled) {
  if (dialled.empty()) {
    std::vector<std::shared_ptr<link>> strangers;
    for (const auto& [id, l] : links)
      if (!l->greeted() && !l->dialled()) strangers.push_back(l);
    if (strangers.size() >= options.max_handshakes)
      strangers.front()->close("too many unfinished handshakes");
    if (links.size() >= options.max_links) return;
  }
  boost::system::error_code ignored;
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  const auto id = ++last_id;
  auto l = std::make_shared<link>(*this, id, std::move(socket), tls, std::move(dialled));
  links.emplace(id, l);
  l->start();
}

void peer_links::state::dial(const std::string& address) {
  const auto to = split(address);
  if (to.host.empty() || dialling.size() >= 64 || !dialling.insert(address).second) return;
  auto self = shared_from_this();
  resolver.async_resolve(to.host, to.port, [self, address](boost::system::error_code e, const auto& found) {
    if (e) {
      self->dialling.erase(address);
      return;
    }
    auto socket = std::make_shared<asio::ip::tcp::socket>(self->context);
    auto deadline = std::make_shared<asio::steady_timer>(self->context, self->options.handshake_timeout);
    deadline->async_wait([socket](boost::system::error_code stopped) {
      boost::system::error_code ignored;
      if (!stopped) socket->close(ignored);
    });
    asio::async_connect(*socket, found,
                        [self, address, socket, deadline](boost::system::error_code failed, const auto&) {
                          deadline->cancel();
                          if (failed || !socket->is_open()) {
                            self->dialling.erase(address);
                            return;
                          }
                          self->add(std::move(*socket), address);
                        });
  });
}

void peer_links::state::resolve(const std::string& name, std::uint16_t to_port) {
  resolver.async_resolve(
      name, std::to_string(to_port),
      [self = shared_from_this()](boost::system::error_code e, const auto& found) {
        if (e) return;
        std::vector<std::string> addresses;
        for (const auto& entry : found) {
          const auto at = entry.endpoint();
          addresses.push_back(at.address().is_v6()
                                  ? fmt::format("[{}]:{}", at.address().to_string(), at.port())
                                  : fmt::format("{}:{}", at.address().to_string(), at.port()));
        }
        std::sort(addresses.begin(), addresses.end());
        addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
        if (self->handler.resolved) self->handler.resolved(std::move(addresses));
      });
}

tl::expected<std::unique_ptr<peer_links>, std::string> peer_links::open(link_options options) {
  auto s = std::make_shared<state>(std::move(options));
  if (!s->options.insecure) {
    auto loaded = load_context(s->options);
    if (!loaded) return tl::unexpected(std::move(loaded.error()));
    s->tls = std::move(*loaded);
  }
  if (auto listening = s->listen(); !listening) return tl::unexpected(std::move(listening.error()));
  return std::unique_ptr<peer_links>(new peer_links(std::move(s)));
}

peer_links::peer_links(std::shared_ptr<state> s) : state_(std::move(s)) {}

std::uint16_t peer_links::port() const noexcept {
  return state_->port;
}

void peer_links::run(link_handler handler) {
  state_->handler = std::move(handler);
  asio::post(state_->context, [s = state_] { s->accept(); });
  state_->thread = std::thread([s = state_] {
    pthread_setname_np(pthread_self(), "links");
    const auto work = asio::make_work_guard(s->context);
    s->context.run();
  });
}

void peer_links::stop() {
  if (!state_->thread.joinable()) return;
  asio::post(state_->context, [s = state_] {
    boost::system::error_code ignored;
    s->acceptor.close(ignored);
    s->pause.expires_after(last_words);
    s->pause.async_wait([s](boost::system::error_code) {
      s->handler = {};
      const auto all = s->links;
      for (const auto& [id, l] : all) l->close("this node stops");
      s->context.stop();
    });
  });
  state_->thread.join();
  state_->links.clear();
}

peer_links::~peer_links() {
  stop();
}

void peer_links::dial(const std::string& address) {
  asio::post(state_->context, [s = state_, address] { s->dial(address); });
}

void peer_links::send(link_id id, std::shared_ptr<const std::string> frame) {
  asio::post(state_->context, [s = state_, id, frame = std::move(frame)] {
    if (const auto found = s->links.find(id); found != s->links.end())
      std::shared_ptr(found->second)->send(frame);
  });
}

void peer_links::close(link_id id, const std::string& why) {
  asio::post(state_->context, [s = state_, id, why] {
    if (const auto found = s->links.find(id); found != s->links.end())
      std::shared_ptr(found->second)->close(why);
  });
}

void peer_links::handled(link_id id, std::size_t bytes) {
  asio::post(state_->context, [s = state_, id, bytes] {
    if (const auto found = s->links.find(id); found != s->links.end())
      std::shared_ptr(found->second)->handled(bytes);
  });
}

void peer_links::resolve(const std::string& name, std::uint16_t port) {
  asio::post(state_->context, [s = state_, name, port] { s->resolve(name, port); });
}

tl::expected<void, std::string> peer_links::reload() {
  if (state_->options.insecure) return {};
  auto loaded = load_context(state_->options);
  if (!loaded) return tl::unexpected(std::move(loaded.error()));
  asio::post(state_->context, [s = state_, fresh = std::move(*loaded)] { s->tls = fresh; });
  return {};
}

}  // namespace bitnet::net
