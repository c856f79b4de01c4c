#include "apps/bitnet_server/application.hpp"

#include "actors/device_backend.hpp"
#include "actors/engine_process/process_backend.hpp"
#include "actors/fault_injection.hpp"
#include "actors/inference_engine.hpp"
#include "actors/service.hpp"
#include "apps/bitnet_server/api.hpp"
#include "apps/bitnet_server/console.hpp"
#include "apps/bitnet_server/devices.hpp"
#include "apps/bitnet_server/front_end_health.hpp"
#include "apps/bitnet_server/logging.hpp"
#include "apps/bitnet_server/request_counters.hpp"
#include "apps/bitnet_server/server_metrics.hpp"
#include "apps/build_info.hpp"
#include "engine/gguf.hpp"
#include "http/server.hpp"
#include "kernels/instruction_set.hpp"
#include "kernels/team.hpp"
#include "net/peer_links.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <prometheus/metric_family.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

namespace bitnet::apps {

namespace {

using std::chrono::milliseconds;

/// After the drain: how long parts may take to end before the process ends without them.
constexpr milliseconds hard_stop{10'000};
/// What is left of answers being written when everything else has ended.
constexpr milliseconds last_words{1'000};

/// The signals that end the server or make it read its keys again. Blocked in every thread, taken by `wait`
/// alone.
class termination_signals {
 public:
  termination_signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    sigset_t all = set_;
    sigaddset(&all, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
  }

  /// Returns the signal that ends the server. Meanwhile calls `on_reload` at each SIGHUP, and `each_second`.
  int wait(const std::function<void()>& on_reload, const std::function<void()>& each_second) const {
    sigset_t all = set_;
    sigaddset(&all, SIGHUP);
    for (;;) {
      const timespec second{1, 0};
      const int number = sigtimedwait(&all, nullptr, &second);
      if (number == SIGHUP) on_reload();
      if (number > 0 && number != SIGHUP) return number;
      each_second();
    }
  }

  /// True where one came within `limit`.
  bool wait_for(milliseconds limit) const {
    timespec t{};
    t.tv_sec = limit.count() / 1000;
    t.tv_nsec = limit.count() % 1000 * 1'000'000;
    return sigtimedwait(&set_, nullptr, &t) > 0;
  }

 private:
  sigset_t set_{};
};

/// engine.lm-head as the device has it.
std::string effective_head(const config::server_config& config, bool on_gpu) {
  return on_gpu && config.engine.lm_head == "screened" ? "int8" : config.engine.lm_head;
}

/// The engine of this machine, loading as configured. Where the very first load fails there is nothing to
/// serve: the reason is kept and the server ends. A later failure shows in /health instead.
class start_up {
 public:
  actors::inference_backend wrap(actors::inference_backend backend, const config::server_config& config,
                                 bool on_gpu) {
    const auto head = config.engine.lm_head == "f16" ? kernels::head_matrix::format::f16
                                                     : kernels::head_matrix::format::int8;
    // The screen and a second copy for few tokens serve the CPU alone.
    const bool screen = effective_head(config, on_gpu) == "screened";
    const auto decode = on_gpu ? engine::decode_format::two_bit
                               : engine::parse_decode_format(config.engine.decode_weights)
                                     .value_or(engine::decode_format::automatic);
    const auto isa =
        kernels::parse_instruction_set(config.engine.kernels).value_or(kernels::best_instruction_set());
    const auto choose = [head, screen, decode, isa](engine::load_options options) {
      options.head = head;
      options.screen_head = screen;
      options.decode = decode;
      options.isa = isa;
      return options;
    };
    if (backend.check_room)
      backend.check_room = [choose, check = backend.check_room](
                               const std::filesystem::path& path, const engine::load_options& options,
                               const engine::generation_options& generation) {
        return check(path, choose(options), generation);
      };
    backend.load_model = [this, choose, load = backend.load_model](const std::filesystem::path& path,
                                                                   const engine::load_options& options) {
      auto model = load(path, choose(options));
      if (!model && first_load_.exchange(false)) {
        const std::lock_guard lock{mutex_};
        failure_ = fmt::format("cannot load {}: {}", path.string(), model.error().message);
        kill(getpid(), SIGTERM);  // wakes the main thread
      }
      if (model) first_load_ = false;
      return model;
    };
    return backend;
  }

  std::optional<std::string> failure() const {
    const std::lock_guard lock{mutex_};
    return failure_;
  }

 private:
  std::atomic<bool> first_load_{true};
  mutable std::mutex mutex_;
  std::optional<std::string> failure_;
};

/// bitnet-worker, where processes isolate the engine. Nothing where it cannot be run.
tl::expected<std::filesystem::path, std::string> find_worker(const config::server_config& config) {
  std::filesystem::path path = config.engine.worker_binary;
  if (path == "auto") {
    std::error_code problem;
    path = std::filesystem::read_symlink("/proc/self/exe", problem).parent_path() / "bitnet-worker";
  }
  if (access(path.c_str(), X_OK) == 0) return path;
  return tl::unexpected(
      fmt::format("engine.worker-binary: cannot run {}: {}; install bitnet-worker beside bitnet-server, name "
                  "it here, or use engine.isolation=thread",
                  path.string(), std::strerror(errno)));
}

tl::expected<actors::inference_backend, std::string> make_backend(const config::server_config& config,
                                                                  actors::fault_injection* faults,
                                                                  device_set& devices) {
  if (config.engine.isolation == "thread") {
    auto here = actors::cpu_backend(faults != nullptr);
    if (devices.in_here.empty()) return here;
    return actors::on_devices(std::move(here), std::move(devices.in_here));
  }
  auto worker = find_worker(config);
  if (!worker) return tl::unexpected(std::move(worker.error()));
  actors::process_backend_options options;
  options.worker_binary = std::move(*worker);
  options.devices = devices.names;
  options.faults = faults;
  if (config.debug.unwatched) options.scrub_bytes_per_second = 0;
  return actors::process_backend(std::move(options));
}

/// Serves the answers that the aggregator rendered.
class snapshot_probes : public http::probe_source {
 public:
  explicit snapshot_probes(const actors::snapshot_store& store) : store_(store) {}

  void append_answer(http::probe which, bool head, bool keep_alive, std::string& out) const override {
    store_.append_answer(translate(which), head, keep_alive, out);
  }

 private:
  static actors::probe translate(http::probe which) {
    switch (which) {
      case http::probe::health:
        return actors::probe::health;
      case http::probe::live:
        return actors::probe::live;
      case http::probe::ready:
        return actors::probe::ready;
      case http::probe::metrics:
        return actors::probe::metrics;
      case http::probe::history:
        return actors::probe::history;
      case http::probe::events:
        return actors::probe::events;
    }
    return actors::probe::health;
  }

  const actors::snapshot_store& store_;
};

/// Nothing where the configuration names an instruction set that cannot run here.
tl::expected<kernels::instruction_set, std::string> choose_kernels(const std::string& name) {
  if (name == "auto") return kernels::best_instruction_set();
  const auto isa = kernels::parse_instruction_set(name);
  if (isa && kernels::is_supported(*isa)) return *isa;
  std::string supported;
  for (const auto each : kernels::supported_instruction_sets())
    supported += fmt::format("{}{}", supported.empty() ? "" : ", ", kernels::to_string(each));
  return tl::unexpected(
      fmt::format("engine.kernels: this machine cannot run {}; it can run {}", name, supported));
}

tl::expected<actors::cluster_settings, std::string> cluster_settings(const config::server_config& config) {
  const auto& c = config.cluster;
  if (!c.insecure && (c.tls_certificate.empty() || c.tls_key.empty() || c.tls_ca.empty()))
    return tl::unexpected(std::string{
        "cluster.port is set: name cluster.tls-certificate, cluster.tls-key and cluster.tls-ca, or "
        "set cluster.insecure=true where nobody else can reach the network between the nodes"});
  if (c.insecure)
    spdlog::warn("cluster.insecure is on: whoever reaches {} port {} can read and send everything", c.address,
                 c.port);
  if (c.advertise.empty() && (c.address == "0.0.0.0" || c.address == "::"))
    return tl::unexpected(
        std::string{"cluster.advertise: name the host at which other nodes reach this one"});
  net::link_options o;
  o.address = c.address;
  o.port = c.port;
  o.insecure = c.insecure;
  o.certificate_file = c.tls_certificate;
  o.key_file = c.tls_key;
  o.authority_file = c.tls_ca;
  return actors::cluster_settings{
      std::make_shared<const net::link_options>(std::move(o)), c.advertise, c.seeds, c.dns, {}};
}

tl::expected<actors::service_options, std::string> service_options(const config::server_config& config,
                                                                   const request_counters& counters) {
  const auto isa = choose_kernels(config.engine.kernels);
  if (!isa) return tl::unexpected(isa.error());
  const auto& build = this_build();

  actors::service_options o;
  o.model_path = config.model;
  auto directories = actors::model_directories::open(config.models.directories);
  if (!directories) return tl::unexpected(directories.error());
  o.directories = std::move(*directories);
  o.generation.isa = *isa;
  o.generation.threads = config.engine.threads;
  o.generation.max_sequences = config.engine.max_sequences;
  o.generation.max_queued = config.engine.max_queued;
  o.generation.kv_cache_bytes = config.engine.kv_cache_mb << 20;
  o.generation.prefill_chunk = config.engine.prefill_chunk;
  o.load_threads = config.engine.threads;
  o.cpu_count = kernels::usable_cpu_count();
  o.build = {std::string{build.version},  std::string{build.git_sha},     std::string{build.git_branch},
             std::string{build.built_at}, std::string{build.compiler},    std::string{build.target},
             std::string{build.profile},  std::string{build.cuda_version}};
  if (config.cluster.port != 0) {
    auto cluster = cluster_settings(config);
    if (!cluster) return tl::unexpected(cluster.error());
    o.cluster = std::move(*cluster);
  }
  o.startup_grace = config.health.startup_grace;
  o.degraded_ok = config.health.degraded_ok;
  o.memory_degraded_percent = config.health.memory_degraded_percent;
  o.memory_unhealthy_percent = config.health.memory_unhealthy_percent;
  o.replace_wait = config.engine.replace_wait;
  o.resume_wait = config.engine.resume_wait;
  o.log = read_log;
  o.unwatched = config.debug.unwatched;
  o.requests = [&counters] { return counters.read(); };
  return o;
}

void log_access(const http::access_record& r) {
  const auto& f = r.facts;
  spdlog::info("{} {} {} {} {} bytes {:.1f} ms {}{}{}{}{}", r.remote_address, r.method, r.target, r.status,
               r.response_bytes, static_cast<double>(r.duration.count()) / 1000.0,
               r.request_id.empty() ? "-" : r.request_id, r.client.empty() ? "" : " key ", r.client,
               f.prompt_tokens == 0 ? ""
                                    : fmt::format(" tokens {}+{} first {:.1f} ms", f.prompt_tokens,
                                                  f.completion_tokens, f.first_token_ms),
               r.completed ? "" : " cut off");
}

http::thread_priority parse_priority(std::string_view name) {
  if (name == "normal") return http::thread_priority::normal;
  return name == "prompt" ? http::thread_priority::prompt : http::thread_priority::automatic;
}

std::string_view describe(http::effective_priority priority) {
  switch (priority) {
    case http::effective_priority::real_time:
      return "before all ordinary ones (real time)";
    case http::effective_priority::prompt:
      return "promptly (short slices)";
    case http::effective_priority::normal:
      return "in their turn: where every core is busy, probes wait for milliseconds; see docs/operations.md";
  }
  return "";
}

http::server_options server_options(const config::server_config& config) {
  http::server_options o;
  o.address = config.http.address;
  o.port = config.http.port;
  o.threads = static_cast<unsigned>(config.http.threads);
  o.max_connections = config.http.max_connections;
  o.limits.body_bytes = config.http.max_body_kb << 10;
  o.limits.header_timeout = config.http.header_timeout;
  o.limits.idle_timeout = config.http.idle_timeout;
  o.limits.write_timeout = config.http.write_timeout;
  o.priority = parse_priority(config.http.priority);
  o.tls_certificate = config.http.tls_certificate;
  o.tls_key = config.http.tls_key;
  o.access.key_file = config.access.key_file;
  o.access.keys = config.access.keys;
  o.access.requests_per_minute = config.access.requests_per_minute;
  o.access.max_concurrent = config.access.max_concurrent;
  o.access.cors_origins = config.access.cors_origins;
  o.routes = api_routes(config.debug.fault_injection, config.cluster.port != 0);
  o.log = log_access;
  return o;
}

/// Requests get `limit` to finish; a second signal ends the wait.
void drain(actors::service& service, http::server& server, const request_counters& counters,
           const termination_signals& signals, front_end_health& health, milliseconds limit) {
  service.drain();
  server.begin_drain();
  const auto deadline = std::chrono::steady_clock::now() + limit;
  auto reported = std::chrono::steady_clock::now();
  while (counters.active() > 0 && std::chrono::steady_clock::now() < deadline) {
    if (std::chrono::steady_clock::now() - reported >= std::chrono::seconds{1}) {
      health.report();
      reported = std::chrono::steady_clock::now();
    }
    if (signals.wait_for(milliseconds{20})) {
      spdlog::warn("second signal: not waiting for {} active requests", counters.active());
      return;
    }
  }
  if (counters.active() > 0)
    spdlog::warn("drain.timeout is over: cutting off {} active requests", counters.active());
}

/// Counters of the front end and of the log for /metrics.
std::vector<prometheus::MetricFamily> front_end_metrics(const http::server& server) {
  const auto s = server.statistics();
  const auto log = read_log();
  return {
      gauge_family("bitnet_http_connections_open", "Connections now.",
                   static_cast<double>(s.connections_open)),
      counter_family("bitnet_http_connections_total", "Connections accepted.", s.connections_total),
      counter_family("bitnet_http_connections_refused_total", "Connections or requests beyond the limit.",
                     s.connections_refused),
      counter_family("bitnet_http_requests_total", "HTTP requests, probes included.", s.requests_total),
      counter_family("bitnet_http_protocol_errors_total", "Requests that were no valid HTTP, or late.",
                     s.protocol_errors_total),
      counter_family("bitnet_log_lines_lost_total", "Log lines that nobody took.",
                     log.lines_dropped + log.write_errors),
  };
}

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

/// A `host:port` as it stands in a URL.
std::string url_authority(const std::string& address, std::uint16_t port) {
  return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                : fmt::format("[{}]:{}", address, port);
}

int refuse(const std::string& reason) {
  stop_logging();
  fmt::print(stderr, "bitnet-server: {}\n", reason);
  return 1;
}

}  // namespace

int serve(const config::server_config& config) {
  const termination_signals signals;
  const auto events = std::make_shared<actors::event_log>();
  start_logging(config.log, events);

  // What can be known at once is said at once; the rest takes the time of a load.
  if (const auto file = engine::gguf_file::open(config.model); !file) return refuse(file.error().message);

  request_counters counters;
  auto options = service_options(config, counters);
  if (!options) return refuse(options.error());
  const auto faults = config.debug.fault_injection ? std::make_shared<actors::fault_injection>() : nullptr;
  options->faults = faults;
  // Filled once the front end is there; until then its counters are missing.
  std::atomic<const http::server*> front_end{nullptr};
  const auto metrics = std::make_shared<server_metrics>();
  metrics->add_source([&front_end] {
    const auto* const known = front_end.load();
    return known == nullptr ? std::vector<prometheus::MetricFamily>{} : front_end_metrics(*known);
  });
  options->metrics.push_back(metrics);
  if (faults)
    spdlog::warn("debug.fault-injection is on: whoever reaches /debug/faults can break this server");
  auto devices = find_devices(config.engine.device, config.engine.isolation == "thread");
  if (!devices) return refuse(devices.error());
  options->gpu = std::move(devices->gpu);
  const bool on_gpu = !devices->names.empty();
  options->kind = {on_gpu ? fmt::format("{}", fmt::join(devices->names, ", ")) : "cpu",
                   on_gpu ? "cuda" : std::string{kernels::to_string(options->generation.isa)},
                   effective_head(config, on_gpu)};
  if (options->cluster) options->cluster->logits = options->kind.lm_head;
  auto backend = make_backend(config, faults.get(), *devices);
  if (!backend) return refuse(backend.error());
  start_up loading;
  auto service =
      actors::service::start(std::move(*options), loading.wrap(std::move(*backend), config, on_gpu));
  if (!service) return refuse(service.error());

  const snapshot_probes probes{(*service)->snapshots()};
  const auto streams = std::make_shared<actors::stream_board>();
  api_dispatcher api{**service, counters, *metrics, config.http.sse_ping, streams, faults};
  auto server = http::server::start(server_options(config), probes, api);
  if (!server) {
    (*service)->stop(milliseconds{0}, hard_stop);
    return refuse(server.error());
  }
  spdlog::info("bitnet-server {} listening on {}://{}", this_build().version,
               config.http.tls_certificate.empty() ? "http" : "https",
               url_authority(config.http.address, (*server)->port()));

  spdlog::info("HTTP threads run {}", describe((*server)->priority()));

  if (!is_loopback(config.http.address) && !(*server)->requires_key())
    spdlog::warn("{} is open to everybody who reaches it: set access.key-file", config.http.address);

  auto console = console_server::start(config, (*server)->port(), **service, events, streams);
  if (!console) {
    (*server)->stop(milliseconds{0});
    (*service)->stop(milliseconds{0}, hard_stop);
    return refuse(console.error());
  }

  front_end = server->get();
  front_end_health health{**service, **server, config};
  health.report();
  const int signal = signals.wait(
      [&] {
        health.reload();
        if (const auto cluster = (*service)->cluster()) caf::anon_send(cluster, actors::reload_atom_v);
      },
      [&] { health.report(); });
  if (const auto failure = loading.failure()) {
    front_end = nullptr;
    console->reset();
    (*server)->stop(milliseconds{0});
    (*service)->stop(milliseconds{0}, hard_stop);
    return refuse(*failure);
  }
  spdlog::info("{}: draining", signal == SIGTERM ? "SIGTERM" : "SIGINT");
  drain(**service, **server, counters, signals, health, config.drain.timeout);
  (*server)->stop(last_words);
  front_end = nullptr;
  console->reset();
  (*service)->stop(milliseconds{0}, hard_stop);
  spdlog::info("stopped");
  stop_logging();
  return 0;
}

}  // namespace bitnet::apps
