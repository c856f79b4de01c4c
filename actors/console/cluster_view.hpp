#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <functional>
#include <optional>
#include <string>

namespace bitnet::actors {

/// What the console asks about other nodes. One implementation knows this node alone; that of the cluster
/// knows its peers. Called on the console's thread: reads what was last heard, never asks a peer.
class cluster_view {
 public:
  virtual ~cluster_view() = default;

  /// This node's name: what `use` and `--node` take.
  virtual std::string self() const = 0;

  /// One object a member, this node included: name, state ("alive", "suspect", "dead", "left"), incarnation,
  /// version, uptime_seconds, self; more where more is known.
  virtual boost::json::array members() const = 0;

  /// Where a request that comes in here may go: to, takes_requests, running, queued, capacity, and
  /// round_trip_us for other nodes.
  virtual boost::json::array routes() const = 0;

  /// Hands a request of the console to another member and returns where its answer will be: called until it
  /// has one, or is given up. Empty where there is no such member, or it is not connected.
  virtual std::function<std::optional<boost::json::object>()> forward(const std::string& node,
                                                                      const boost::json::object& request) = 0;

  /// Round trip to a member in microseconds, as last measured; nothing where it is not known.
  virtual std::optional<double> round_trip_us(const std::string& node) const = 0;
};

}  // namespace bitnet::actors
