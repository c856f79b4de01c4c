#pragma once

#include "actors/console/cluster_view.hpp"
#include "actors/console/endpoint.hpp"
#include "actors/introspection/event_log.hpp"
#include "actors/introspection/introspection.hpp"
#include "actors/introspection/stream_board.hpp"
#include "actors/snapshot_store.hpp"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::actors {

/// A setting as the console shows it.
struct console_setting {
  std::string key;
  std::string value;
  std::string default_value;
};

/// What the commands read and do. Nothing here may wait: readers return what is known, actions send a
/// message. A source that is empty takes its commands out of `help`.
struct console_sources {
  std::shared_ptr<introspection> actors;
  std::function<snapshot_store::latest_facts()> facts;
  std::shared_ptr<event_log> events;
  std::shared_ptr<stream_board> streams;
  std::shared_ptr<cluster_view> cluster;
  std::vector<console_setting> settings;
  std::function<void(bool draining)> drain;
  std::function<void(std::uint64_t request)> cancel;
  std::function<std::string()> log_level;
  std::function<bool(const std::string& level)> set_log_level;  ///< false: no such level
  std::function<void(const std::string& line)> audit;           ///< for every action, done or refused
};

/// A request of the console, checked for shape.
struct console_request {
  std::string command;
  std::vector<std::string> words;  ///< arguments without a name
  boost::json::object options;     ///< strings by name
  bool write = false;              ///< the console was started with --write and the user said yes

  std::optional<std::string> option(std::string_view name) const;
};

/// The result of a command, or why there is none.
struct command_result {
  boost::json::object result;
  std::string error;  ///< a sentence that says what to do; empty: `result` holds
  bool partial = false;
  /// For actions: asked until it gives the result; `result` counts where it has none in time.
  std::function<std::optional<boost::json::object>()> later;
};

struct console_command {
  std::string_view name;
  std::string_view usage;    ///< arguments only
  std::string_view summary;  ///< one line
  bool acts = false;         ///< changes the server: only with --write
  std::function<bool(const console_sources&)> available;
  std::function<command_result(const console_sources&, const console_request&)> run;
};

std::span<const console_command> actor_commands();
std::span<const console_command> service_commands();
std::span<const console_command> acting_commands();

/// Answers the console's requests: looks up the command, checks that acting ones may act, writes the audit
/// line, puts the node's state in front. One thread.
class command_dispatcher {
 public:
  explicit command_dispatcher(console_sources sources);

  /// What the server says of itself to a console that connects: version and the commands it has.
  boost::json::object hello() const;

  console::reply answer(const boost::json::object& request, const console::peer& from) const;

 private:
  const console_command* find(std::string_view name) const;
  boost::json::object node() const;
  boost::json::object envelope(const std::string& command, const command_result& result) const;

  console_sources sources_;
  std::vector<const console_command*> commands_;
};

/// Whether a setting's value must not be shown, by the words of its key.
bool is_secret(std::string_view key);

}  // namespace bitnet::actors
