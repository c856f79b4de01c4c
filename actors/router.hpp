#pragma once

#include "actors/cluster/routing.hpp"
#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"
#include "actors/stream_table.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

namespace bitnet::actors {

/// What a router shows of its streams. It writes, any thread reads; relaxed.
struct stream_counters {
  std::atomic<std::uint64_t> active{0};       ///< submitted by clients and not yet ended
  std::atomic<std::uint64_t> waiting{0};      ///< of these: in no worker now
  std::atomic<std::uint64_t> resumed{0};      ///< went on after the loss of their worker, since the start
  std::atomic<std::uint64_t> abandoned{0};    ///< ended because no worker came in time
  std::atomic<std::uint64_t> quarantined{0};  ///< given up as the cause of workers' deaths
};

struct router_options {
  std::uint32_t seed = 1;  ///< of the choices between workers
  resume_options resume;
  std::shared_ptr<stream_counters> counters = std::make_shared<stream_counters>();
  /// For a worker to accept or refuse: after its current step, which may be a long prefill on a slow machine.
  std::chrono::seconds submit_timeout{120};
  std::chrono::milliseconds tick{50};  ///< while streams wait
  /// Told of this process's own workers, to offer them to other nodes. Empty: there is no cluster.
  std::function<void(const announced_worker&)> on_announce;
  std::function<void(std::uint64_t id, std::uint64_t incarnation)> on_withdraw;
};

/// A worker as the router knows it. A withdrawn one gets nothing new, but still hears of cancellations.
struct routed_worker {
  announced_worker worker;
  bool withdrawn = false;
};

struct router_state {
  static inline const char* name = "router";

  /// Who gets the tokens of a stream.
  struct client {
    token_sink_actor sink;
    std::uint64_t model = 0;  ///< slot
    engine::request_id id = 0;
    std::uint32_t attempt = 0;
    caf::typed_response_promise<submit_receipt> accepted;  ///< pending until a worker has accepted
    std::uint64_t prefix = 0;  ///< hash of the prompt's beginning: whose KV cache may have it
    std::optional<std::uint64_t> refused_by{};  ///< tried another one for it already
  };

  /// A model that has, or had, workers.
  struct model_workers {
    std::uint64_t last_capacity = 0;            ///< of the last one that was announced
    std::optional<steady_time> without_worker;  ///< since when; nothing while one takes requests
  };

  router_actor::pointer self;
  router_options options;
  std::vector<routed_worker> workers;  ///< at most one a worker id
  bool draining = false;
  cluster::retry_budget retries;
  std::minstd_rand random;

  stream_table streams;
  std::map<stream_table::key, client> clients;  ///< by key of the stream
  std::map<caf::actor_addr, std::set<stream_table::key>> by_sink;
  std::map<std::uint64_t, model_workers> models;  ///< by slot, from the first announcement to the release
  bool tick_pending = false;

  explicit router_state(router_actor::pointer owner) : self(owner) {}
  ~router_state();

  caf::result<submit_receipt> submit(std::uint64_t model, engine::generation_request request,
                                     std::uint32_t attempt, const token_sink_actor& sink);
  void cancel(engine::request_id request);
  void announce(announced_worker worker);
  void withdraw(std::uint64_t id, std::uint64_t incarnation);
  void release(std::uint64_t model);
  void on_frame(token_frame& frame);
  void on_down(const caf::actor_addr& who);
  void tick();

 private:
  bool any_worker(std::uint64_t model) const;
  void note_workers();
  void pump();
  const announced_worker* choose(const client& c, const engine::generation_request& wanted);
  bool retry_elsewhere(stream_table::key k);
  void schedule_tick();
  void send_to(stream_table::key k, const announced_worker& worker);
  void on_refusal(stream_table::key k, std::uint32_t attempt, const caf::error& error);
  void lose_worker(const announced_worker& worker);
  void cancel_at_worker(stream_table::key k);
  /// Ends a stream with an error: the answer to the submission, or once that was given, the last frame.
  void fail(stream_table::key k, error_code code, const std::string& message);
  void forget(stream_table::key k);
  void publish();
};

/// Sends requests to workers and keeps their streams going when workers are lost (stream_table.hpp).
router_actor::behavior_type router(instrumented_pointer<router_actor, router_state> self,
                                   router_options options);

}  // namespace bitnet::actors
