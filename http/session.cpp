#include "http/session.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <utility>

namespace bitnet::http {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

bool is_would_block(const error_code& error) {
  return error == asio::error::would_block || error == asio::error::try_again;
}

/// A client that sends without end gets other connections served in between.
constexpr int reads_in_a_row = 4;

}  // namespace

session::session(std::shared_ptr<http_thread> thread, http_thread::socket_type socket,
                 std::shared_ptr<const tls_context> tls, bool probes_only)
    : thread_{std::move(thread)}, socket_{std::move(socket)}, probes_only_{probes_only} {
  if (tls) tls_ = std::make_unique<tls_stream>(std::move(tls), socket_.native_handle());
}

void session::prepare(std::string remote_address) {
  connection::origin origin;
  origin.remote_address = std::move(remote_address);
  origin.probes_only = probes_only_;
  // The thread is held, so that its io_context outlives every writer; the session is not, or a wake-up left
  // in the queue would keep both alive for ever.
  origin.wake = [thread = thread_, weak = weak_from_this()] {
    asio::post(thread->context(), [weak] {
      const auto self = weak.lock();
      if (!self) return;
      self->guarded([&] { self->connection_->collect(http_thread::clock::now()); });
    });
  };
  connection_ =
      std::make_unique<connection>(thread_->environment(), std::move(origin), http_thread::clock::now());
  self_ = shared_from_this();
}

void session::start() noexcept {
  const auto keep = self_;
  guarded([] {});
}

/// Runs an action on the protocol and then what it asks for. A session that fails is closed: nothing leaves.
template <class Action>
void session::guarded(Action&& action) noexcept {
  if (closed_) return;
  try {
    action();
    pump();
  } catch (...) {
    close();
  }
}

session::transfer session::read(std::span<char> into) {
  if (tls_) return translate(tls_->read(into));
  error_code error;
  const auto size = socket_.read_some(asio::buffer(into.data(), into.size()), error);
  if (is_would_block(error)) return {transfer::status::would_block};
  if (error == asio::error::eof) return {transfer::status::ended};
  return {error ? transfer::status::failed : transfer::status::done, size};
}

session::transfer session::write(std::string_view bytes) {
  if (tls_) return translate(tls_->write(bytes));
  error_code error;
  const auto size = socket_.write_some(asio::buffer(bytes.data(), bytes.size()), error);
  if (is_would_block(error)) {
    wait_writable();
    return {transfer::status::would_block};
  }
  return {error ? transfer::status::failed : transfer::status::done, size};
}

/// Waits for what TLS waits for, which need not be what we do: a write may have to read first.
session::transfer session::translate(tls_stream::result result) {
  switch (result.what) {
    case tls_stream::status::done:
      return {transfer::status::done, result.size};
    case tls_stream::status::want_read:
      if (!waiting_readable_) wait_readable();
      return {transfer::status::would_block};
    case tls_stream::status::want_write:
      if (!waiting_writable_) wait_writable();
      return {transfer::status::would_block};
    case tls_stream::status::ended:
      return {transfer::status::ended};
    case tls_stream::status::failed:
      break;
  }
  return {transfer::status::failed};
}

void session::pump() {
  while (!closed_ && !waiting_writable_ && !connection_->output().empty()) {
    const auto written = write(connection_->output());
    if (written.what == transfer::status::would_block) break;
    if (written.what != transfer::status::done) {
      close();
      return;
    }
    connection_->sent(written.size, http_thread::clock::now());
  }
  if (closed_) return;
  if (connection_->closed()) {
    if (tls_ && !connection_->cut_off()) tls_->finish();
    close();
    return;
  }
  if (connection_->wants_shutdown() && !shut_down_) {
    shut_down_ = true;
    if (tls_) tls_->finish();
    error_code ignored;
    socket_.shutdown(asio::socket_base::shutdown_send, ignored);
  }
  if (waiting_readable_ || !connection_->wants_input()) return;
  if (tls_ && tls_->has_pending()) {
    read_soon();
  } else {
    wait_readable();
  }
}

/// After what others wait for: no readiness announces bytes that TLS has decrypted already.
void session::read_soon() {
  waiting_readable_ = true;
  asio::post(thread_->context(), [self = shared_from_this()] {
    self->waiting_readable_ = false;
    self->guarded([&] { self->on_readable(); });
  });
}

// Waits instead of asynchronous reads and writes: the operation itself then needs no buffer that stays put,
// and all connections of a thread read into one.

void session::wait_readable() {
  waiting_readable_ = true;
  socket_.async_wait(asio::socket_base::wait_read, [self = shared_from_this()](const error_code& error) {
    self->waiting_readable_ = false;
    if (error) {
      self->close();
    } else {
      self->guarded([&] { self->on_readable(); });
    }
  });
}

void session::wait_writable() {
  waiting_writable_ = true;
  socket_.async_wait(asio::socket_base::wait_write, [self = shared_from_this()](const error_code& error) {
    self->waiting_writable_ = false;
    if (error) {
      self->close();
    } else {
      self->guarded([&] {
        if (self->tls_) self->on_readable();
      });
    }
  });
}

void session::on_readable() {
  auto& scratch = thread_->scratch();
  for (int i = 0; i < reads_in_a_row && connection_->wants_input(); ++i) {
    const auto got = read(scratch);
    if (got.what == transfer::status::would_block) return;
    const auto now = http_thread::clock::now();
    if (got.what == transfer::status::ended) {
      connection_->receive_eof(now);
      return;
    }
    if (got.what == transfer::status::failed) {
      close();
      return;
    }
    connection_->receive({scratch.data(), got.size}, now);
    if (!tls_ && got.size < scratch.size()) return;
  }
}

bool session::client_has_left() const noexcept {
  tcp_info info{};
  socklen_t length = sizeof info;
  auto& socket = const_cast<http_thread::socket_type&>(socket_);
  if (::getsockopt(socket.native_handle(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return false;
  return info.tcpi_state != TCP_ESTABLISHED;
}

void session::tick(http_thread::clock::time_point now) noexcept {
  const auto keep = self_;
  guarded([&] {
    if (connection_->exchange_pending()) {
      connection_->collect(now);
      // Pipelined input fills the buffer, so the FIN behind it is never read.
      if (!connection_->wants_input() && client_has_left()) connection_->receive_eof(now);
    }
    connection_->check_deadlines(now);
  });
}

void session::finish() noexcept {
  const auto keep = self_;
  guarded([&] { connection_->finish(http_thread::clock::now()); });
}

void session::close() noexcept {
  if (closed_) return;
  closed_ = true;
  connection_->abort();
  error_code ignored;
  socket_.close(ignored);
  thread_->remove(*this);
  // May end the session's life: nothing behind this touches it.
  const auto keep = std::move(self_);
}

}  // namespace bitnet::http
