#pragma once

#include <tl/expected.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace bitnet::net {

struct link_options {
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;        ///< 0: any free one
  bool insecure = false;         ///< plaintext, nobody is asked who they are; the files below are not used
  std::string certificate_file;  ///< PEM: this node's certificate and those between it and the authority's
  std::string key_file;
  std::string authority_file;  ///< PEM: whose certificates are accepted

  std::chrono::milliseconds handshake_timeout{5000};  ///< from the connection to the peer's greeting
  std::size_t max_handshakes = 64;                    ///< unfinished, of strangers; one more ends the oldest
  std::size_t max_links = 512;
  std::size_t max_frame_bytes = 256 * 1024;
  std::size_t max_unsent_bytes = 4 << 20;     ///< of one link; a peer that takes less is cut off
  std::size_t max_unhandled_bytes = 1 << 20;  ///< of one link; nothing more is read until some are handled
};

using link_id = std::uint64_t;

/// Called on the links' thread, one at a time; must not block. Of one link: `opened` first, `closed` last.
struct link_handler {
  std::function<std::string()> greeting;  ///< this node's, for each new link
  /// The host that a greeting says its sender is reached at; empty: the greeting is refused. The peer's
  /// certificate must name it.
  std::function<std::string(const std::string& greeting)> host_of;
  /// `dialled`: the address that was dialled; empty where the other side did.
  std::function<void(link_id, std::string dialled, std::string greeting)> opened;
  std::function<void(link_id, std::string frame)> received;
  std::function<void(link_id, std::string why)> closed;
  std::function<void(std::vector<std::string> addresses)> resolved;
};

/// Links between nodes: frames over TLS 1.3, each side with a certificate that names it and that the common
/// authority signed. One thread. After construction all functions may be called from any thread and return
/// at once.
///
/// A stranger costs a descriptor and a TLS handshake's memory until the deadline, no more: frames have a
/// limit before memory is given, nothing but the greeting is read before the peer is known.
class peer_links {
 public:
  /// Binds and reads the certificates; nothing is accepted yet. The error is one sentence.
  static tl::expected<std::unique_ptr<peer_links>, std::string> open(link_options options);
  ~peer_links();  ///< closes all links, joins the thread
  peer_links(const peer_links&) = delete;
  peer_links& operator=(const peer_links&) = delete;

  std::uint16_t port() const noexcept;
  void run(link_handler handler);  ///< once
  void stop();                     ///< what was sent has a moment to go out; then as the destructor

  /// host:port or [v6]:port. One attempt an address at a time; a failure is not reported.
  void dial(const std::string& address);
  void send(link_id link, std::shared_ptr<const std::string> frame);
  void close(link_id link, const std::string& why);
  /// Bytes of received frames that have been dealt with.
  void handled(link_id link, std::size_t bytes);
  /// All addresses of a name, each with `port`, to handler.resolved. Nothing comes where it does not resolve.
  void resolve(const std::string& name, std::uint16_t port);
  /// Reads the certificates again, for new links. The error: what is wrong; the old ones stay in use.
  tl::expected<void, std::string> reload();

  struct state;

 private:
  explicit peer_links(std::shared_ptr<state> s);
  std::shared_ptr<state> state_;
};

/// The host in host:port or [v6]:port; empty where there is none.
std::string host_part(const std::string& address);

}  // namespace bitnet::net
