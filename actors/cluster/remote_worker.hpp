#pragma once

#include "actors/interfaces.hpp"
#include "actors/worker_board.hpp"

#include <cstdint>
#include <memory>

namespace bitnet::actors::cluster {

struct remote_worker_options {
  cluster_actor cluster;
  std::uint64_t number = 0;  ///< the cluster's for this worker
  std::shared_ptr<const worker_board> board;
};

/// A worker of another node as the router sees it. All it has goes on to the cluster actor, which knows the
/// way; ends with the node.
worker_actor::behavior_type remote_worker(worker_actor::pointer self, remote_worker_options options);

/// Whether a request can be sent to another node as it is now: see max_message_bytes.
bool fits_message(const engine::generation_request& request) noexcept;

}  // namespace bitnet::actors::cluster
