#pragma once

#include "actors/interfaces.hpp"

#include <cstdint>
#include <optional>
#include <random>
#include <vector>

namespace bitnet::actors {

/// A worker as the router knows it. A withdrawn one gets nothing new, but still hears of cancellations.
struct routed_worker {
  announced_worker worker;
  bool withdrawn = false;
};

struct router_state {
  static inline const char* name = "router";

  router_actor::pointer self;
  std::vector<routed_worker> workers;  ///< at most one a worker id
  bool draining = false;
  std::minstd_rand random;

  explicit router_state(router_actor::pointer owner) : self(owner) {}

  caf::result<submit_receipt> submit(engine::generation_request& request, std::uint32_t attempt,
                                     const token_sink_actor& sink);
  void announce(announced_worker worker);
  void withdraw(std::uint64_t id, std::uint64_t incarnation);
  void on_down(const caf::actor_addr& who);
};

/// The less loaded of two different candidates chosen at random ("power of two choices"): nearly as balanced
/// as looking at all, without all clients running to the same one. Index into `loads`; nothing when empty.
std::optional<std::size_t> choose_of_two(const std::vector<std::uint64_t>& loads, std::minstd_rand& random);

/// `seed`: of the choices between workers.
router_actor::behavior_type router(router_actor::stateful_pointer<router_state> self, std::uint32_t seed);

}  // namespace bitnet::actors
