#include "net/link.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <openssl/x509v3.h>

#include <utility>
#include <vector>

namespace bitnet::net {

link::link(link_owner& owner, link_id id, asio::ip::tcp::socket socket, std::shared_ptr<ssl::context> tls,
           std::string dialled)
    : owner_(owner),
      id_(id),
      tls_(std::move(tls)),
      dialled_(std::move(dialled)),
      deadline_(socket.get_executor(), owner.limits().handshake_timeout) {
  if (tls_)
    secure_.emplace(std::move(socket), *tls_);
  else
    plain_.emplace(std::move(socket));
}

void link::start() {
  auto self = shared_from_this();
  deadline_.async_wait([self](boost::system::error_code e) {
    if (!e && !self->greeted_) self->close("no greeting in time");
  });
  if (!secure_) return greet();
  const auto side = dialled_.empty() ? ssl::stream_base::server : ssl::stream_base::client;
  secure_->async_handshake(side, [self](boost::system::error_code e) {
    if (e) return self->close(fmt::format("TLS handshake: {}", e.message()));
    self->greet();
  });
}

void link::greet() {
  if (closed_ || !owner_.callbacks().greeting) return;
  send(std::make_shared<const std::string>(owner_.callbacks().greeting()));
  read_size();
}

template <class Handler>
void link::read(asio::mutable_buffer to, Handler handler) {
  if (secure_)
    asio::async_read(*secure_, to, std::move(handler));
  else
    asio::async_read(*plain_, to, std::move(handler));
}

void link::read_size() {
  read(asio::buffer(size_), [self = shared_from_this()](boost::system::error_code e, std::size_t) {
    if (e) return self->close(e == asio::error::eof ? "the other side closed" : e.message());
    std::size_t size = 0;
    for (std::size_t i = 4; i-- > 0;) size = size << 8 | self->size_[i];
    constexpr std::size_t largest_greeting = 4096;
    const auto limit = self->greeted_ ? self->owner_.limits().max_frame_bytes : largest_greeting;
    if (size == 0 || size > limit) return self->close("a frame over the limit; is the other side a node?");
    self->read_body(size);
  });
}

void link::read_body(std::size_t size) {
  incoming_.resize(size);
  read(asio::buffer(incoming_), [self = shared_from_this()](boost::system::error_code e, std::size_t) {
    if (e) return self->close(e.message());
    self->take(std::exchange(self->incoming_, {}));
  });
}

bool link::certificate_names(const std::string& host) {
  if (!secure_) return true;
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      SSL_get1_peer_certificate(secure_->native_handle()), &X509_free);
  if (!certificate) return false;
  boost::system::error_code e;
  asio::ip::make_address(host, e);
  return e ? X509_check_host(certificate.get(), host.data(), host.size(), 0, nullptr) == 1
           : X509_check_ip_asc(certificate.get(), host.c_str(), 0) == 1;
}

void link::take(std::string frame) {
  if (closed_) return;
  const auto& callbacks = owner_.callbacks();
  if (!greeted_) {
    const auto host = callbacks.host_of ? callbacks.host_of(frame) : std::string{};
    if (host.empty()) return close("the greeting is not a node's");
    if (!certificate_names(host)) return close(fmt::format("the certificate does not name '{}'", host));
    greeted_ = true;
    deadline_.cancel();
    owner_.greeted(dialled_);
    if (callbacks.opened) callbacks.opened(id_, dialled_, std::move(frame));
  } else {
    unhandled_ += frame.size();
    if (callbacks.received) callbacks.received(id_, std::move(frame));
  }
  if (closed_) return;
  reading_ = unhandled_ <= owner_.limits().max_unhandled_bytes;
  if (reading_) read_size();
}

void link::handled(std::size_t bytes) {
  unhandled_ -= std::min(bytes, unhandled_);
  if (closed_ || reading_ || unhandled_ > owner_.limits().max_unhandled_bytes / 2) return;
  reading_ = true;
  read_size();
}

void link::send(std::shared_ptr<const std::string> frame) {
  if (closed_) return;
  unsent_ += frame->size() + 4;
  if (unsent_ > owner_.limits().max_unsent_bytes) return close("the other side takes nothing");
  outgoing o{{}, std::move(frame)};
  for (std::size_t i = 0; i < 4; ++i) o.size[i] = static_cast<unsigned char>(o.frame->size() >> (8 * i));
  queue_.push_back(std::move(o));
  if (writing_ == 0) write();
}

void link::write() {
  // Several small frames a write: fewer TLS records and system calls.
  std::vector<asio::const_buffer> buffers;
  std::size_t bytes = 0;
  writing_ = 0;
  for (const auto& o : queue_) {
    if (writing_ == 32 || (writing_ != 0 && bytes + o.frame->size() > 64 * 1024)) break;
    buffers.emplace_back(asio::buffer(o.size));
    buffers.emplace_back(asio::buffer(*o.frame));
    bytes += o.frame->size() + 4;
    ++writing_;
  }
  auto done = [self = shared_from_this(), bytes](boost::system::error_code e, std::size_t) {
    if (e) return self->close(e.message());
    self->unsent_ -= bytes;
    self->queue_.erase(self->queue_.begin(),
                       self->queue_.begin() + static_cast<std::ptrdiff_t>(self->writing_));
    self->writing_ = 0;
    if (!self->queue_.empty() && !self->closed_) self->write();
  };
  if (secure_) {
    // A TLS stream encrypts each buffer into a record of its own, so they are put together first.
    auto joined = std::make_shared<std::string>();
    joined->reserve(bytes);
    for (const auto& b : buffers) joined->append(static_cast<const char*>(b.data()), b.size());
    const auto whole = asio::buffer(*joined);
    asio::async_write(*secure_, whole,
                      [joined, done](boost::system::error_code e, std::size_t n) { done(e, n); });
  } else {
    asio::async_write(*plain_, buffers, done);
  }
}

void link::close(const std::string& why) {
  if (std::exchange(closed_, true)) return;
  const auto self = shared_from_this();
  deadline_.cancel();
  boost::system::error_code ignored;
  const auto peer = socket().remote_endpoint(ignored);
  socket().close(ignored);
  if (greeted_) {
    if (owner_.callbacks().closed) owner_.callbacks().closed(id_, why);
  } else {
    spdlog::debug("cluster: no link with {}: {}", dialled_.empty() ? peer.address().to_string() : dialled_,
                  why);
  }
  owner_.gone(id_, dialled_);
}

}  // namespace bitnet::net
