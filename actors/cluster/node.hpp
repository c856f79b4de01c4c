#pragma once

#include "actors/cluster/failure_detector.hpp"
#include "actors/cluster/member_map.hpp"
#include "actors/cluster/message.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace bitnet::actors::cluster {

struct node_options {
  detector_options detector;
  std::vector<std::string> seeds;              ///< addresses to look for others at
  std::chrono::milliseconds join_every{1000};  ///< between attempts to find others or lost ones
  std::chrono::milliseconds sync_every{500};   ///< between full exchanges that differing digests start
  std::uint64_t seed = 1;                      ///< of random choices
};

/// What a node does as a member: finds others, keeps the list of members, watches its neighbours. Knows no
/// clock, no socket and no actor: told what came and what time it is, it says what to send. Messages may be
/// lost, repeated and late.
class node {
 public:
  /// The same message often goes to many; it is made once.
  using shared_message = std::shared_ptr<const message>;

  struct event {
    enum class kind : std::uint8_t {
      reachable,    ///< takes part, round trips work
      unreachable,  ///< suspect: send nothing new there
      lost,         ///< dead or gone: what it had is lost
      changed,      ///< declares something else of itself
    };
    kind what;
    node_id who;
  };

  struct outputs {
    std::vector<std::pair<node_id, shared_message>> sends;
    std::vector<std::string> dials;  ///< addresses where somebody unknown, or lost, may be
    std::vector<event> events;
  };

  node(node_description self, std::uint64_t incarnation, node_options options, steady_time now);

  /// Replaces the addresses to look at: a name was resolved again.
  void set_seeds(std::vector<std::string> seeds) { options_.seeds = std::move(seeds); }
  void declare(declaration what);
  /// What pings carry from now on.
  void set_load(std::vector<worker_load> workers) { load_ = std::move(workers); }

  /// A link with this node has been opened; `check_hello` has accepted it.
  void on_hello(const hello& greeting, steady_time now);
  void on_disconnected(const node_id& from, steady_time now);
  /// Pings and what belongs to membership; other messages count as a sign of life only.
  void on_message(const node_id& from, const message& m, steady_time now);
  /// Every detector_options::tick.
  void tick(steady_time now);

  /// What to do; call after each of the above.
  outputs take() { return std::exchange(out_, {}); }

  const member_map& members() const noexcept { return map_; }
  const failure_detector& detector() const noexcept { return detector_; }
  member_state state_of(const node_id& id) const;
  /// A member to which requests may go.
  bool routable(const node_id& id) const;
  const std::vector<node_id>& watched() const noexcept { return neighbours_; }
  /// Load as the member last reported it, and when; nullptr where it never has or is gone.
  struct load_report {
    std::vector<worker_load> workers;
    steady_time at;
  };
  const load_report* load_of(const node_id& id) const;

 private:
  void on(const node_id& from, const ping& m, steady_time now);
  void on(const node_id& from, const gossip& m, steady_time now);
  void on(const node_id& from, const ack& m, steady_time now);
  void on(const node_id& from, const probe_request& m, steady_time now);

  void send(const node_id& to, message m);
  void merge(const member_record& record, const node_id& from, steady_time now);
  void compare(const node_id& from, std::uint64_t digest, steady_time now);
  void send_all(const node_id& to, bool reply);
  void spread();
  void note(event::kind what, const node_id& who);
  void look_for_others(steady_time now);

  node_options options_;
  member_map map_;
  failure_detector detector_;
  std::minstd_rand random_;
  outputs out_;

  std::vector<node_id> neighbours_;
  bool map_changed_ = true;
  std::set<node_id> news_;                  ///< members to tell the neighbours of
  std::vector<member_record> corrections_;  ///< what the sender of the current message does not know
  std::vector<worker_load> load_;
  std::map<node_id, load_report> reports_;
  /// Who wants to know that a member answers, until when.
  std::multimap<node_id, std::pair<node_id, steady_time>> probes_;
  steady_time last_join_{};
  steady_time last_sync_{};
  steady_time last_change_{};
};

}  // namespace bitnet::actors::cluster
