#pragma once

#include "actors/console/frames.hpp"
#include "actors/console/listening_socket.hpp"

#include <boost/json/object.hpp>
#include <tl/expected.hpp>

#include <optional>
#include <string>
#include <vector>

namespace bitnet::console {

struct remote_command {
  std::string name;
  std::string usage;
  std::string summary;
  bool acts = false;
};

/// A connection to one server. Connects again, once, where the server closed it in between.
class client {
 public:
  /// `target`: a socket's path (it has a slash) or HOST:PORT. Fails with a sentence.
  static tl::expected<client, std::string> connect(std::string target);

  /// The server's answer, an error of its own included; fails where there is none. Bounded by 10 seconds.
  tl::expected<boost::json::object, std::string> ask(const boost::json::object& request);

  const std::vector<remote_command>& commands() const noexcept { return commands_; }
  const remote_command* find(const std::string& name) const;
  const std::string& node() const noexcept { return node_; }
  const std::string& version() const noexcept { return version_; }
  const std::string& target() const noexcept { return target_; }

 private:
  explicit client(std::string target) : target_(std::move(target)) {}

  tl::expected<void, std::string> open();
  tl::expected<void, std::string> send_object(const boost::json::object& object);
  tl::expected<boost::json::object, std::string> receive_object();

  std::string target_;
  descriptor fd_;
  frame_reader in_{max_answer_bytes};
  std::vector<remote_command> commands_;
  std::string node_;
  std::string version_;
};

/// The server to talk to where none is named: the only one on this machine. Otherwise a sentence.
struct no_target {
  std::string message;
  bool ambiguous = false;  ///< several run
};
tl::expected<std::string, no_target> find_target();

}  // namespace bitnet::console
