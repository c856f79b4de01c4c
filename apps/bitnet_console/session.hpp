#pragma once

#include "apps/bitnet_console/client.hpp"
#include "apps/bitnet_console/invocation.hpp"

#include <cstddef>
#include <functional>
#include <string>

namespace bitnet::console {

/// What the console ends with; docs/console.md.
enum class exit_code : int { ok = 0, degraded = 1, unreachable = 2, usage = 64 };

/// Where commands write, and what they may ask.
struct terminal {
  std::function<void(const std::string&)> out;
  std::function<void(const std::string&)> err;
  bool interactive = false;  ///< out is a terminal, in too: may be asked, may be redrawn
  std::size_t width = 0;     ///< 0: lines are not cut
  /// Reads a line after a prompt; used to confirm. Empty: nobody to ask.
  std::function<std::string(const std::string& prompt)> confirm;
};

/// Runs commands on one server.
class session {
 public:
  session(client& server, terminal screen, bool write)
      : server_(server), screen_(std::move(screen)), write_(write) {}

  exit_code run(const invocation& what);

  /// Before the prompt of the interactive console.
  std::string prompt() const;

 private:
  exit_code once(const invocation& what, const remote_command& command);
  exit_code repeat(const invocation& what, const remote_command& command, double seconds);
  exit_code follow(const invocation& what, const remote_command& command);
  exit_code help(const invocation& what);
  exit_code show(const invocation& what, const boost::json::object& answer, bool with_header);
  bool confirmed(const invocation& what, const remote_command& command);
  boost::json::object request_of(const invocation& what, const remote_command& command) const;
  void measure_round_trips(const boost::json::object& request, boost::json::object& answer);
  exit_code unreachable(const std::string& why);
  exit_code misused(const std::string& why);

  client& server_;
  terminal screen_;
  bool write_;
};

/// Waits for `seconds`, or less: returns true where the user wants to stop (q, Enter or Ctrl-C on a
/// terminal).
bool stopped_within(double seconds, bool interactive);

std::string usage_text();

}  // namespace bitnet::console
