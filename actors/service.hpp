#pragma once

#include "actors/cluster/identity.hpp"
#include "actors/gpu_supervisor.hpp"
#include "actors/health.hpp"
#include "actors/interfaces.hpp"
#include "actors/introspection/introspection.hpp"
#include "actors/model_directories.hpp"
#include "actors/probes/process.hpp"
#include "actors/snapshot_store.hpp"
#include "engine/generation.hpp"
#include "engine/model.hpp"

#include <prometheus/collectable.h>
#include <tl/expected.hpp>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::net {
struct link_options;
}

namespace bitnet::actors {

class fault_injection;
struct inference_backend;

/// This process as a node of a cluster.
struct cluster_settings {
  std::shared_ptr<const net::link_options> links;
  std::string advertise;           ///< host or host:port; empty: where it listens
  std::vector<std::string> seeds;  ///< host:port
  std::string dns;                 ///< host or host:port
  std::string logits;              ///< how they are computed; nodes that differ would give other tokens
};

/// Everything that the actors need to know; apps/ fills it from the configuration.
struct service_options {
  std::filesystem::path model_path;
  model_directories directories;          ///< of files that clients may have loaded instead; empty: none
  engine::generation_options generation;  ///< threads, batch and cache sizes of the worker
  std::optional<gpu_options> gpu;         ///< component "gpu"; nothing in builds without CUDA
  std::size_t load_threads = 0;           ///< for packing weights; 0: all usable CPUs
  std::size_t scheduler_threads = 2;      ///< of CAF, at least 2; inference has threads of its own
  std::size_t cpu_count = 0;              ///< usable CPUs, for cpu_usage_percent; 0: the affinity mask's

  build_info build;
  engine_kind kind;  ///< of the engine, for /health

  std::optional<cluster_settings> cluster;  ///< nothing: it serves alone

  std::chrono::milliseconds startup_grace{5000};
  bool degraded_ok = false;
  double memory_degraded_percent = 80;
  double memory_unhealthy_percent = 90;

  std::chrono::milliseconds replace_wait{5000};  ///< for a new request, while a worker is being replaced
  std::chrono::milliseconds resume_wait{60000};  ///< for a stream whose worker was lost

  /// Counters of the API. Called by the aggregator at each publication (5 a second): must neither block nor
  /// throw; relaxed atomics behind. Empty: all zero.
  std::function<request_statistics()> requests;

  /// No canary but the first, no scrub, no watchdog, hardly a report: to measure what they cost. Never ready.
  bool unwatched = false;

  /// What the log has lost. Called by the process supervisor each second: must neither block nor throw.
  /// Empty: nothing.
  std::function<log_reading()> log;

  /// More metric families for /metrics, for example a prometheus::Registry with latency histograms. Collected
  /// by the aggregator at each publication.
  std::vector<std::shared_ptr<prometheus::Collectable>> metrics;

  /// Where parts declare the faults that can be caused in them; null: none can (production).
  std::shared_ptr<fault_injection> faults;
};

/// Starts the actors in order and stops them in the reverse order. One a process, owned by main.
///
/// Start: configuration checked, actor system, aggregator (its first snapshot is published before `start`
/// returns, so a front end may serve probes at once), then under one supervisor model, memory, engine with
/// its worker, router. The model loads in the background: watch readiness, not `start`.
class service {
 public:
  /// Fails with one sentence where the options are out of range or the actor system does not take its
  /// settings.
  static tl::expected<std::unique_ptr<service>, std::string> start(service_options options,
                                                                   inference_backend backend);

  /// Stops at once where `stop` was not called.
  ~service();
  service(const service&) = delete;
  service& operator=(const service&) = delete;

  /// The answers of the probes; any thread, wait-free, valid as long as the service is.
  const snapshot_store& snapshots() const noexcept;

  /// Adds what a part outside the actors says of itself to the health; not critical. Any thread.
  void report(component_report report);

  /// Where requests go (interfaces.hpp). Lives as long as the service and outlives workers: keep this handle,
  /// never a worker's.
  router_actor router() const;

  /// The cluster; invalid where there is none.
  /// What GET /cluster shows, at most some tenths of a second old; null without a cluster. Never blocks.
  std::shared_ptr<const std::string> cluster_document() const;
  cluster_actor cluster() const;

  /// For actors of the application: they must have ended before `stop` returns control to the caller's own
  /// destructors; use `caf::scoped_actor` or spawn with `system().spawn`.
  caf::actor_system& system() noexcept;

  /// The model that gets requests now, for tokenising them and for the router; nullptr where there is none.
  /// Any thread; takes a short lock. Keep the pointer until the request has ended, and no longer: a replaced
  /// model stays until then.
  std::shared_ptr<const served_model> model() const;

  /// Who loads and unloads models (interfaces.hpp); invalid before the first one has started. Any thread.
  model_supervisor_actor models() const;

  /// What the actors show of themselves. Any thread; outlives the service.
  std::shared_ptr<introspection> inspected() const;

  /// Asks for `drain` or for its end, and does not wait: snapshots() tells when it has happened. Any thread.
  void request_drain(bool draining);
  /// Asks for the end of a request, wherever it runs.
  void request_cancel(engine::request_id request);

  /// Readiness answers 503 from now on, the router refuses new requests with error_code::draining, running
  /// ones go on. Any thread; returns once the published snapshot says so.
  void drain();

  /// Whether the engine computes on a GPU.
  bool on_gpu() const noexcept;

  /// True when no stream runs, is queued or waits for a worker.
  bool idle() const noexcept;

  /// drain(), waits up to `drain_deadline` for running requests, cancels the rest, ends the actors. The actor
  /// system's own destructor may wait for a hung engine for ever: where the whole takes longer than
  /// `drain_deadline + hard_deadline` the process ends with _Exit(70). Returns true when all requests ended
  /// by themselves.
  bool stop(std::chrono::milliseconds drain_deadline, std::chrono::milliseconds hard_deadline);

 private:
  struct state;
  explicit service(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

}  // namespace bitnet::actors
