#pragma once

#include "actors/cluster/member.hpp"
#include "actors/health.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace bitnet::actors::cluster {

/// One node's copy of the list of members. Copies become equal by merging records in any order, any number of
/// times. Knows no clock and no network.
class member_map {
 public:
  struct member {
    member_record record;
    steady_time gone_since{};  ///< where record.gone()
  };

  /// Gone members are remembered for a while: a late record must not bring them back, and a node that was
  /// merely cut off is looked for again.
  static constexpr std::chrono::minutes remember_gone{5};
  /// More are not taken in; a bound for memory.
  static constexpr std::size_t max_members = 4096;

  member_map(node_description self, std::uint64_t incarnation);

  const node_id& self() const noexcept { return self_; }
  const member_record& own() const { return members_.at(self_).record; }

  /// A new declaration of this node's own. False where it is declared already, or has left.
  bool declare(declaration what);

  enum class effect : std::uint8_t {
    none,   ///< nothing new
    added,  ///< a member that was not known
    changed,
    refuted,   ///< it said that this node is dead: this node's incarnation is greater now
    outdated,  ///< the sender knows less than this copy
  };
  effect merge(const member_record& record, steady_time now);

  /// This node's own claim that a member is dead. False for one that is gone or unknown.
  bool claim_dead(const node_id& id, steady_time now);

  /// Drops members that have been gone for `remember_gone`.
  void forget(steady_time now);

  const member* find(const node_id& id) const;
  const std::map<node_id, member>& members() const noexcept { return members_; }
  std::size_t present() const noexcept { return present_; }  ///< not gone, this node included

  /// Equal for copies with the same members present at the same incarnations; gone ones do not count, because
  /// nodes forget them at different times. 64 bits, order-free.
  std::uint64_t digest() const noexcept { return digest_; }

 private:
  void replace(member& m, const member_record& record, steady_time now);
  void count(const member_record& record, bool in);

  node_id self_;
  std::map<node_id, member> members_;
  std::size_t present_ = 0;
  std::uint64_t digest_ = 0;
};

/// Whom a node watches and talks to: up to `full_mesh` members all others, beyond that successor and
/// predecessor on each of `ring_count` rings, on which members stand in the order of a hash. So the cost of a
/// node does not grow with the cluster, each member is watched by about 2 * ring_count others, and news
/// spread in a few hops: a union of random rings is an expander with high probability (Rapid, Suresh et al.,
/// USENIX ATC 2018). Every node computes the same graph from the same map. Sorted.
std::vector<node_id> neighbours(const member_map& map);

inline constexpr std::size_t full_mesh = 32;
inline constexpr std::size_t ring_count = 5;

}  // namespace bitnet::actors::cluster
