#pragma once

#include "actors/cluster/node.hpp"
#include "actors/cluster/stream.hpp"
#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"
#include "actors/worker_board.hpp"
#include "net/peer_links.hpp"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace bitnet::actors::cluster {

/// For /metrics: the cluster actor writes, any thread reads; relaxed.
struct cluster_counters {
  std::array<std::atomic<std::uint64_t>, 6> members{};  ///< by member_state, this node included
  std::atomic<std::uint64_t> links{0};
  std::atomic<std::uint64_t> refused_peers{0};
  std::atomic<std::uint64_t> served{0};     ///< sequences for other nodes, now
  std::atomic<std::uint64_t> forwarded{0};  ///< sequences on other nodes, now
  std::atomic<std::uint64_t> stalled{0};    ///< attempts given up because nothing came any more
  std::atomic<std::uint64_t> lost{0};       ///< attempts lost with their node or its link
  std::atomic<std::uint64_t> lag_ms{0};     ///< by which own timers came late, in all
};

/// What GET /cluster shows, as it was at the last tick, for those who must not wait for an actor. The cluster
/// actor publishes, any thread reads.
class published_cluster {
 public:
  void publish(std::string document) {
    std::atomic_store(&latest_, std::make_shared<const std::string>(std::move(document)));
  }
  /// Null before the first tick.
  std::shared_ptr<const std::string> latest() const { return std::atomic_load(&latest_); }

 private:
  std::shared_ptr<const std::string> latest_;
};

struct cluster_options {
  node_description self;
  std::vector<std::string> seeds;
  std::string dns;  ///< a name all of whose addresses are nodes; empty: none
  std::uint16_t dns_port = 0;
  std::shared_ptr<net::peer_links> links;
  router_actor router;
  aggregator_actor aggregator;
  std::shared_ptr<cluster_counters> counters = std::make_shared<cluster_counters>();
  std::shared_ptr<published_cluster> published = std::make_shared<published_cluster>();
  detector_options detector;
  stream_options streams;
  std::chrono::seconds resolve_every{5};
};

struct cluster_state {
  static inline const char* name = "cluster";

  /// A worker of another node.
  struct remote {
    node_id node;
    std::uint64_t worker = 0;
    std::uint64_t incarnation = 0;
    std::uint64_t capacity = 0;
    std::shared_ptr<worker_board> board;
    worker_actor handle;
    bool announced = false;
    steady_time reported{};
  };
  /// A sequence of this node's router on another node.
  struct forwarded {
    std::uint64_t remote = 0;
    engine::request_id request = 0;  ///< the router's number
    token_sink_actor sink;
    forwarded_stream stream;
    caf::typed_response_promise<submit_receipt> accepted;  ///< pending until the other node answered
  };
  /// A sequence of another node on a worker of this one.
  struct served {
    node_id gateway;
    std::uint64_t stream = 0;
    std::uint32_t attempt = 0;
    worker_actor worker;
    served_stream out;
  };
  struct peer {
    node_id id;
    bool dialled_by_us = false;
    steady_time since{};
  };

  cluster_actor::pointer self;
  cluster_options options;
  std::optional<cluster::node> node;
  std::vector<announced_worker> workers;  ///< of this process, offered to others
  std::map<net::link_id, peer> peers;
  std::map<node_id, net::link_id> link_of;
  std::map<std::string, node_id> reached;  ///< who answered at an address
  std::map<std::string, steady_time> dialled;
  std::map<std::uint64_t, remote> remotes;
  std::map<std::uint64_t, forwarded> forwards;  ///< by the number on the wire
  std::map<std::uint64_t, served> serves;       ///< by the number that the worker knows
  std::uint64_t last_number = 0;
  steady_time alive_sent{};
  steady_time reported{};
  steady_time resolved{};
  bool draining = false;  ///< can be undone
  bool leaving = false;   ///< cannot

  explicit cluster_state(cluster_actor::pointer owner) : self(owner) {}

  steady_time now() const { return self->clock().now(); }
  void on_link(link_event& e);
  void tick();
  void declare();
  void leave();
  std::string describe();

  // remote_streams.cpp
  void on_message(const node_id& from, const message& m);
  caf::result<submit_receipt> submit(std::uint64_t number, const engine::generation_request& request,
                                     std::uint32_t attempt, const token_sink_actor& sink);
  void cancel(std::uint64_t number, engine::request_id request);
  void on_frame(token_frame& frame);
  void tick_streams(std::chrono::nanoseconds late);
  /// Nothing comes from this node any more, or nothing useful.
  void lose_streams_on(const node_id& node);
  void cancel_streams_of(const node_id& gateway);
  void hand_back();

 private:
  void open_link(link_event& e);
  void close_link(net::link_id link);
  void carry_out(cluster::node::outputs out);
  void send(const node_id& to, const message& m);
  void dial(const std::string& address, bool at_once);
  void connect_neighbours();
  void sync_remotes();
  void drop_remotes(const node_id& node);
  void report_health();
  void count();
  std::vector<worker_load> own_load() const;

  void on(const node_id& from, const stream_submit& m);
  void on(const node_id& from, const stream_accept& m);
  void on(const node_id& from, const stream_refuse& m);
  void on(const node_id& from, const stream_frame& m);
  void on(const node_id& from, const stream_credit& m);
  void on(const node_id& from, const stream_cancel& m);
  void on(const node_id& from, const stream_alive& m);
  std::map<std::uint64_t, served>::iterator find_served(const node_id& gateway, std::uint64_t stream,
                                                        std::uint32_t attempt);
  forwarded* find_forwarded(const node_id& from, std::uint64_t stream, std::uint32_t attempt);
  void send_frames(served& s);
  void lose(std::uint64_t number, bool tell_worker, std::atomic<std::uint64_t>& count);
};

/// Needs a thread of its own: its timers must come in time while the scheduler's threads are busy.
cluster_actor::behavior_type cluster_member(instrumented_pointer<cluster_actor, cluster_state> self,
                                            cluster_options options);

/// What `links` needs to reach the actor.
net::link_handler handler_for(const cluster_actor& cluster, const node_description& self);

/// Of a sample of the file's contents that covers its head, its tail and places in between, so that two
/// models of the same shape differ, and of `settings`, which say what else decides the tokens; 0 where the
/// file cannot be read. Milliseconds.
std::uint64_t hash_model(const std::string& path, std::string_view settings);

}  // namespace bitnet::actors::cluster
