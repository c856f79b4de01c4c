#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bitnet::actors {

using steady_time = std::chrono::steady_clock::time_point;
using wall_time = std::chrono::system_clock::time_point;

/// Worst last, so that the worse of two is the greater.
enum class health_status : std::uint8_t { healthy, degraded, unhealthy };

std::string_view to_string(health_status status) noexcept;

/// Code of a healthy component.
inline constexpr std::string_view health_ok = "ok";

/// What a supervisor says about its component. A message: plain values only.
struct component_report {
  std::string component;  ///< "model", "memory", "inference_engine", "gpu"
  health_status status = health_status::unhealthy;
  std::string message;          ///< one sentence for people
  bool cannot_heal = false;     ///< no restart inside the process helps: liveness fails
  std::uint64_t check_ns = 0;   ///< how long the check itself took
  std::uint64_t period_ns = 0;  ///< the next report comes within this; three missed make it unhealthy
  std::string code = std::string(health_ok);  ///< for programs: what is the matter (docs/health.md)
};

/// A component as the snapshot shows it.
struct component_health {
  std::string name;
  health_status status = health_status::unhealthy;
  std::string message;
  std::string code = std::string(health_ok);
  bool critical = true;
  bool cannot_heal = false;
  wall_time last_check{};
  std::chrono::nanoseconds response_time{};
};

/// Something that happened to the health of the server.
struct health_event {
  std::uint64_t sequence = 0;  ///< counts the events from 1
  wall_time timestamp{};
  std::chrono::nanoseconds uptime{};
  std::string component;              ///< or "server"
  std::optional<health_status> from;  ///< of a transition; nothing: a note, for example of a restart
  health_status status = health_status::healthy;
  std::string code;
  std::string message;
};

/// A note for the history (health_history.hpp). A message.
struct health_note {
  std::string component;
  std::string code;
  std::string message;
};

/// Counters of the API, all since the start. Made by whoever serves requests; a client's own errors and
/// cancellations count neither as failed nor as finished.
struct request_statistics {
  std::uint64_t active = 0;
  std::uint64_t total = 0;     ///< accepted
  std::uint64_t finished = 0;  ///< ended well
  std::uint64_t failed = 0;    ///< ended by a fault of ours
  double seconds = 0;          ///< sum of the durations of the finished and the failed
};

/// Memory as the memory supervisor last measured it. A message.
struct memory_sample {
  std::uint64_t resident_bytes = 0;  ///< of this process and those of its engine, shared pages once
  std::uint64_t used_bytes = 0;      ///< of the limit below, without reclaimable page cache
  std::uint64_t limit_bytes = 0;     ///< the cgroup's limit, or the host's memory
  bool limited_by_cgroup = false;
};

/// An engine of the serving model on a device that has a name.
struct device_sample {
  std::string device;         ///< "cuda:0"
  bool serves = false;        ///< takes requests
  std::uint64_t running = 0;  ///< sequences
};

/// Load and work of all workers as the engine supervisor last read them. A message.
struct engine_sample {
  std::uint64_t workers = 0;  ///< that take requests
  std::uint64_t worker_restarts = 0;
  std::uint64_t running = 0;
  std::uint64_t queued = 0;
  std::uint64_t queue_capacity = 0;
  std::uint64_t kv_blocks_used = 0;
  std::uint64_t kv_blocks_total = 0;
  std::uint64_t prompt_tokens = 0;     ///< since the start, over all incarnations
  std::uint64_t cached_tokens = 0;     ///< likewise: not prefilled, the prefix cache had them
  std::uint64_t generated_tokens = 0;  ///< likewise
  std::uint64_t steps = 0;             ///< likewise
  std::uint64_t failed_sequences = 0;  ///< likewise
  std::uint64_t preemptions = 0;       ///< likewise: sequences put back in the queue, the KV cache was full
  std::uint64_t canary_runs = 0;
  double step_seconds_p99 = 0;             ///< over the last steps
  std::uint32_t loader_pid = 0;            ///< process that holds the weights; 0: this one, or none runs
  std::vector<std::uint32_t> engine_pids;  ///< processes that compute, one a device
  std::vector<device_sample> devices;      ///< none where engines run on the CPU
};

/// Streams as the router last counted them.
struct stream_statistics {
  std::uint64_t active = 0;       ///< submitted and not yet ended
  std::uint64_t waiting = 0;      ///< of these: in no worker now
  std::uint64_t resumed = 0;      ///< since the start: went on after the loss of their worker
  std::uint64_t abandoned = 0;    ///< likewise: ended because no worker came in time
  std::uint64_t quarantined = 0;  ///< likewise: given up as the cause of workers' deaths
};

/// What decides how tokens are computed, as configured and as the machine has it.
struct engine_kind {
  std::string device;   ///< cpu, or the GPU's name
  std::string kernels;  ///< instruction set; cuda on a GPU
  std::string lm_head;  ///< int8, f16 or screened: the last is a heuristic and must be seen
};

/// What the build knows of itself.
struct build_info {
  std::string version;
  std::string git_sha = "unknown";
  std::string git_branch = "unknown";
  std::string build_timestamp = "unknown";
  std::string compiler_version = "unknown";
  std::string target = "unknown";   ///< triple
  std::string profile = "unknown";  ///< build type
  std::string cuda_version;         ///< empty without CUDA
};

/// The "metrics" object of /health.
struct health_metrics {
  std::uint64_t active_requests = 0;
  std::uint64_t total_requests = 0;
  double error_rate_percent = 0;        ///< of the requests that ended in the last `request_window`
  double avg_response_time_ms = 0;      ///< of the same requests
  double memory_usage_mb = 0;           ///< memory_sample::resident_bytes, MiB
  double tokens_per_second = 0;         ///< generated, over the last `throughput_window`
  double cpu_usage_percent = 0;         ///< of the CPUs that this process may use: 0 to 100
  std::optional<double> gpu_memory_mb;  ///< in use on the GPU, MiB; nothing in builds without CUDA
};

/// Everything that is known at one moment. Immutable once published.
struct health_snapshot {
  health_status overall = health_status::unhealthy;
  bool draining = false;
  bool cannot_heal = false;  ///< liveness fails whatever the time
  std::string reason;        ///< why not healthy; empty when healthy
  std::vector<component_health> components;
  /// Since the start, by component and the status that it took.
  std::map<std::pair<std::string, health_status>, std::uint64_t> transitions;
  std::map<std::string, std::uint64_t> notes;  ///< since the start, by code
  build_info build;
  engine_kind kind;  ///< of the engine
  health_metrics metrics;
  request_statistics requests;
  stream_statistics streams;
  memory_sample memory;
  engine_sample engine;
  wall_time timestamp{};
  std::chrono::nanoseconds uptime{};
};

}  // namespace bitnet::actors
