#pragma once

#include <boost/json/object.hpp>
#include <tl/expected.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace bitnet::console {

/// Who is at the other end.
struct peer {
  bool local_socket = false;  ///< came through the Unix-domain socket, which only its owner and root may open
  std::uint64_t user_id = 0;  ///< of a local socket: as the kernel says
  std::int64_t process_id = 0;

  std::string describe() const;  ///< "uid 1000 (pid 4711)", "tcp"
};

/// An answer, now or later: `later` is asked every 20 ms, and `now` is sent where it has nothing by then.
struct reply {
  boost::json::object now;
  std::function<std::optional<boost::json::object>()> later;
  std::chrono::milliseconds patience{0};
};

struct endpoint_options {
  std::string socket_path;           ///< Unix-domain socket; empty: none
  std::string address;               ///< loopback address to listen on as well; empty: none
  std::uint16_t port = 0;            ///< 0: a free one
  std::size_t max_connections = 16;  ///< through each of the two; beyond, the longest idle one is closed
  std::chrono::milliseconds hello_timeout{2'000};   ///< for the console to say hello
  std::chrono::milliseconds frame_timeout{5'000};   ///< from the first byte of a request to its last
  std::chrono::milliseconds write_timeout{5'000};   ///< without a byte of an answer taken
  std::chrono::milliseconds idle_timeout{600'000};  ///< between requests
};

/// Serves bitnet-console on one thread of its own, so that it answers while actors, CAF's scheduler or HTTP
/// threads hang. The handler runs on that thread and must not wait for anybody.
class endpoint {
 public:
  /// `request` is a JSON object from a stranger. May throw: the console gets an error.
  using handler = std::function<reply(const boost::json::object& request, const peer& from)>;

  /// Fails with a sentence where it cannot listen. `hello` is what the server says of itself to whoever
  /// connects. A socket file that nobody listens on any more is replaced.
  static tl::expected<std::unique_ptr<endpoint>, std::string> start(endpoint_options options,
                                                                    boost::json::object hello,
                                                                    handler answer);
  /// Closes all connections and removes the socket file.
  ~endpoint();
  endpoint(const endpoint&) = delete;
  endpoint& operator=(const endpoint&) = delete;

  std::uint16_t port() const noexcept;  ///< 0 without a TCP listener
  const std::string& socket_path() const noexcept;

 private:
  class loop;
  explicit endpoint(std::unique_ptr<loop> running);
  std::unique_ptr<loop> loop_;
};

}  // namespace bitnet::console
