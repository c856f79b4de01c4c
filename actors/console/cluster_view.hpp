#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <optional>
#include <string>

namespace bitnet::actors {

/// What the console asks about other nodes. One implementation knows this node alone; that of the cluster
/// knows its peers. Called on the console's thread: reads what was last heard, never asks a peer.
class cluster_view {
 public:
  virtual ~cluster_view() = default;

  /// This node's name among the members.
  virtual std::string self() const = 0;

  /// One object a member, this node included: name, state ("alive", "suspect", "dead", "left"), incarnation,
  /// version, uptime_seconds, self; more where more is known.
  virtual boost::json::array members() const = 0;

  /// Where a request that comes in here may go: to, takes_requests, running, queued, capacity, and
  /// round_trip_us for other nodes.
  virtual boost::json::array routes() const = 0;

  /// Round trip to a member in microseconds, as last measured; nothing where it is not known.
  virtual std::optional<double> round_trip_us(const std::string& node) const = 0;
};

}  // namespace bitnet::actors
