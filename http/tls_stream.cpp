#include "http/tls_stream.hpp"

#include <fmt/format.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <limits>
#include <new>

namespace bitnet::http {

namespace {

std::string last_reason() {
  std::array<char, 256> text{};
  const auto code = ERR_peek_last_error();
  if (code == 0) return "unknown reason";
  const char* const reason = ERR_reason_error_string(code);
  if (reason != nullptr) return reason;
  ERR_error_string_n(code, text.data(), text.size());
  return text.data();
}

/// We speak HTTP/1.1 only; a client that offers it along with others is told so.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                    unsigned in_size, void*) {
  static constexpr unsigned char ours[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, ours, sizeof ours, in, in_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

std::chrono::system_clock::time_point to_time(const ASN1_TIME* time) {
  std::tm utc{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &utc) != 1) return {};
  return std::chrono::system_clock::from_time_t(timegm(&utc));
}

}  // namespace

tls_context::~tls_context() {
  SSL_CTX_free(context_);
}

tl::expected<std::shared_ptr<const tls_context>, std::string> tls_context::load(
    const std::string& certificate, const std::string& key) {
  ERR_clear_error();
  auto* const context = SSL_CTX_new(TLS_server_method());
  if (context == nullptr) return tl::unexpected("TLS cannot be used: " + last_reason());
  std::shared_ptr<tls_context> made{new tls_context{context}};
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  // An encrypted key is refused: OpenSSL would ask the terminal for its password and wait.
  SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) { return 0; });
  SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);
  if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1)
    return tl::unexpected(fmt::format("http.tls-certificate: {} is no readable PEM certificate: {}",
                                      certificate, last_reason()));
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1)
    return tl::unexpected(
        fmt::format("http.tls-key: {} is no PEM key of {}: {}", key, certificate, last_reason()));
  if (SSL_CTX_check_private_key(context) != 1)
    return tl::unexpected(fmt::format("http.tls-key: {} does not belong to {}", key, certificate));
  made->expires_ = to_time(X509_get0_notAfter(SSL_CTX_get0_certificate(context)));
  return std::shared_ptr<const tls_context>{std::move(made)};
}

tls_stream::tls_stream(std::shared_ptr<const tls_context> context, int socket)
    : context_{std::move(context)}, ssl_{SSL_new(context_->get())} {
  if (ssl_ == nullptr) throw std::bad_alloc{};
  if (SSL_set_fd(ssl_, socket) != 1) {
    SSL_free(ssl_);
    throw std::bad_alloc{};
  }
  SSL_set_accept_state(ssl_);
}

tls_stream::~tls_stream() {
  SSL_free(ssl_);
}

tls_stream::result tls_stream::judge(int returned) noexcept {
  switch (SSL_get_error(ssl_, returned)) {
    case SSL_ERROR_WANT_READ:
      return {status::want_read};
    case SSL_ERROR_WANT_WRITE:
      return {status::want_write};
    case SSL_ERROR_ZERO_RETURN:
      return {status::ended};
    default:
      // Among them clients that close without a close_notify: a failure, but then nothing is left to answer.
      broken_ = true;
      return {status::failed};
  }
}

tls_stream::result tls_stream::read(std::span<char> into) noexcept {
  // The queue of errors belongs to the thread, and what another connection left there would be ours.
  ERR_clear_error();
  std::size_t size = 0;
  const int returned = SSL_read_ex(ssl_, into.data(), into.size(), &size);
  return returned == 1 ? result{status::done, size} : judge(returned);
}

tls_stream::result tls_stream::write(std::string_view bytes) noexcept {
  ERR_clear_error();
  std::size_t size = 0;
  const int returned = SSL_write_ex(ssl_, bytes.data(), bytes.size(), &size);
  return returned == 1 ? result{status::done, size} : judge(returned);
}

void tls_stream::finish() noexcept {
  // After a failure, or before the handshake's end, OpenSSL must not be asked for a farewell.
  if (broken_ || SSL_in_init(ssl_) != 0) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
}

bool tls_stream::has_pending() const noexcept {
  // Not SSL_has_pending: that also counts the beginning of a record whose rest has yet to come.
  return SSL_pending(ssl_) > 0;
}

}  // namespace bitnet::http
