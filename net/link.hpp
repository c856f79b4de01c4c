#pragma once

#include "net/peer_links.hpp"

#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>

namespace bitnet::net {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;

/// What a link needs of those around it.
class link_owner {
 public:
  virtual ~link_owner() = default;
  virtual const link_options& limits() const = 0;
  virtual const link_handler& callbacks() const = 0;
  virtual void greeted(const std::string& dialled) = 0;
  virtual void gone(link_id id, const std::string& dialled) = 0;
};

/// One connection: handshake, greetings, then frames: four bytes of length, little-endian, then that many.
/// Lives on the owner's thread.
class link : public std::enable_shared_from_this<link> {
 public:
  using secure_stream = ssl::stream<asio::ip::tcp::socket>;

  /// `dialled`: the address, empty where the other side connected. Without a context: plaintext.
  link(link_owner& owner, link_id id, asio::ip::tcp::socket socket, std::shared_ptr<ssl::context> tls,
       std::string dialled);

  void start();
  void send(std::shared_ptr<const std::string> frame);
  void close(const std::string& why);
  void handled(std::size_t bytes);

  bool greeted() const noexcept { return greeted_; }
  bool dialled() const noexcept { return !dialled_.empty(); }

 private:
  template <class Handler>
  void read(asio::mutable_buffer to, Handler handler);
  asio::ip::tcp::socket& socket() { return secure_ ? secure_->next_layer() : *plain_; }

  void greet();
  void read_size();
  void read_body(std::size_t size);
  void take(std::string frame);
  void write();
  bool certificate_names(const std::string& host);

  link_owner& owner_;
  link_id id_;
  std::shared_ptr<ssl::context> tls_;  ///< outlives the stream
  std::optional<asio::ip::tcp::socket> plain_;
  std::optional<secure_stream> secure_;
  std::string dialled_;
  asio::steady_timer deadline_;
  bool greeted_ = false;
  bool closed_ = false;
  std::array<unsigned char, 4> size_{};
  std::string incoming_;
  std::size_t unhandled_ = 0;
  bool reading_ = true;  ///< false: waits until frames are handled

  struct outgoing {
    std::array<unsigned char, 4> size;
    std::shared_ptr<const std::string> frame;
  };
  std::deque<outgoing> queue_;
  std::size_t unsent_ = 0;
  std::size_t writing_ = 0;  ///< frames in the current write
};

}  // namespace bitnet::net
