#include "actors/service.hpp"

#include "actors/aggregator_guard.hpp"
#include "actors/cluster/cluster_actor.hpp"
#include "actors/cluster/metrics.hpp"
#include "actors/engine_drill.hpp"
#include "actors/engine_supervisor.hpp"
#include "actors/gpu_metrics.hpp"
#include "actors/health_render.hpp"
#include "actors/memory_supervisor.hpp"
#include "actors/model_supervisor.hpp"
#include "actors/probes/kept_files.hpp"
#include "actors/probes/process.hpp"
#include "actors/process_supervisor.hpp"
#include "actors/router.hpp"
#include "actors/server_faults.hpp"
#include "actors/supervision.hpp"
#include "actors/watchdog.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

namespace bitnet::actors {

namespace {

constexpr std::chrono::seconds control_timeout{5};

class system_config : public introspected_config {
 public:
  explicit system_config(std::size_t threads) {
    // Nothing but this function configures CAF: a stray caf-application.ini must not.
    config_file_path.clear();
    add_message_types<caf::id_block::bitnet>();
    add_error_category(error_category, render_error);
    set("scheduler.policy", caf::atom("sharing"));  // idle: no polling
    set("scheduler.max-threads", threads);
  }
};

/// `set` with a wrong name or type only prints, so what is in force is what must be looked at.
std::optional<std::string> check_effective(const caf::actor_system& system, std::size_t threads) {
  const auto& settings = caf::content(system.config());
  const auto policy = caf::get_or(settings, "scheduler.policy", caf::atom(""));
  if (policy != caf::atom("sharing"))
    return fmt::format("CAF runs scheduler.policy={} instead of sharing; remove the override.",
                       caf::to_string(policy));
  const auto effective = caf::get_or(settings, "scheduler.max-threads", std::size_t{0});
  if (effective != threads)
    return fmt::format("CAF runs scheduler.max-threads={} instead of {}; remove the override.", effective,
                       threads);
  return std::nullopt;
}

std::optional<std::string> check_options(const service_options& o) {
  if (o.model_path.empty()) return "No model is named; pass --model=FILE.";
  if (o.scheduler_threads < 2) return "The actors need at least 2 scheduler threads.";
  if (o.startup_grace.count() < 0) return "health.startup-grace must not be negative.";
  if (!(o.memory_degraded_percent > 0 && o.memory_degraded_percent <= o.memory_unhealthy_percent &&
        o.memory_unhealthy_percent <= 100))
    return "health.memory-degraded-percent must be above 0 and at most health.memory-unhealthy-percent, "
           "which "
           "must be at most 100.";
  return std::nullopt;
}

/// Ends the process where it is still there after `limit`: a hung engine holds the actor system's destructor
/// for ever.
class hard_deadline {
 public:
  explicit hard_deadline(std::chrono::milliseconds limit)
      : thread_([this, limit] {
          std::unique_lock lock(mutex_);
          if (condition_.wait_for(lock, limit, [this] { return disarmed_; })) return;
          std::_Exit(70);  // EX_SOFTWARE
        }) {}
  ~hard_deadline() {
    {
      const std::lock_guard lock(mutex_);
      disarmed_ = true;
    }
    condition_.notify_one();
    thread_.join();
  }
  hard_deadline(const hard_deadline&) = delete;
  hard_deadline& operator=(const hard_deadline&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool disarmed_ = false;
  std::thread thread_;
};

}  // namespace

struct service::state {
  explicit state(service_options o)
      : options(std::move(o)),
        store(std::make_shared<snapshot_store>()),
        streams(std::make_shared<stream_counters>()) {}

  service_options options;
  std::shared_ptr<snapshot_store> store;
  std::shared_ptr<stream_counters> streams;
  /// Added to the wall clock that the checks read; for fault injection.
  std::shared_ptr<std::atomic<std::int64_t>> clock_offset_ns = std::make_shared<std::atomic<std::int64_t>>(0);

  std::shared_ptr<watchdog> guard = std::make_shared<watchdog>();
  std::mutex engine_mutex;
  engine_supervisor_actor engine;  ///< the current one, for drills

  mutable std::mutex model_mutex;
  std::shared_ptr<const served_model> model;
  model_supervisor_actor models;  ///< the current one

  std::optional<system_config> config;
  std::optional<caf::actor_system> system;
  aggregator_actor aggregator;
  router_actor router;
  cluster_actor cluster;
  /// The router is there before the cluster; what it tells of workers waits for it here.
  std::shared_ptr<cluster_actor> cluster_link = std::make_shared<cluster_actor>();
  std::shared_ptr<cluster::cluster_counters> cluster_counters = std::make_shared<cluster::cluster_counters>();
  std::shared_ptr<cluster::published_cluster> published_cluster =
      std::make_shared<cluster::published_cluster>();
  std::shared_ptr<net::peer_links> links;
  caf::actor root;

  std::shared_ptr<aggregation> make_aggregation(const inference_backend& backend) const;
  void declare_engine_faults();
  fault_outcome break_engine(const fault_request& fault);
  std::vector<child_spec> children(const inference_backend& backend);
  tl::expected<void, std::string> open_links();
  void start_cluster();
  void start_actors(const inference_backend& backend);
  template <class Handle>
  bool end(const Handle& handle, std::chrono::milliseconds limit);
  bool wait_idle(std::chrono::milliseconds limit) const;
};

std::vector<pid_t> with_engines(const model_processes& one) {
  auto pids = one.engines;
  pids.push_back(one.loader);
  return pids;
}

/// One line an event; the messages may name files.
void log_event(const health_event& e) {
  const auto level = !e.from                               ? spdlog::level::warn
                     : e.status == health_status::healthy  ? spdlog::level::info
                     : e.status == *e.from                 ? spdlog::level::info
                     : e.status == health_status::degraded ? spdlog::level::warn
                                                           : spdlog::level::err;
  if (e.from)
    spdlog::log(level, "health: {} {} -> {} ({}): {}", e.component, to_string(*e.from), to_string(e.status),
                e.code, e.message);
  else
    spdlog::log(level, "health: {}: {}: {}", e.component, e.code, e.message);
}

std::shared_ptr<aggregation> service::state::make_aggregation(const inference_backend& backend) const {
  aggregation_options a;
  auto families = options.metrics;
  a.components = {{"model"}, {"memory"}, {"inference_engine"}, {"process", false}};
  if (options.gpu) {
    a.components.push_back({"gpu", false});
    a.gpu_memory_mb = [monitor = options.gpu->monitor, used = options.gpu->use.devices] {
      return gpu_memory_mb(monitor->observe().readings, used);
    };
    families.push_back(std::make_shared<gpu_metrics>(options.gpu->monitor, options.gpu->use.devices));
  }
  a.build = options.build;
  a.kind = options.kind;
  a.degraded_ok = options.degraded_ok;
  a.startup_grace = options.startup_grace;
  a.cpu_count = options.cpu_count != 0 ? options.cpu_count : affinity_cpu_count();
  a.cpu_time = [used = std::make_shared<cpu_time_sum>(), others = backend.processes] {
    std::vector<pid_t> pids;
    if (others)
      for (const auto& one : others()) {
        if (one.loader != 0) pids.push_back(one.loader);
        pids.insert(pids.end(), one.engines.begin(), one.engines.end());
      }
    return used->measure(pids);
  };
  a.requests = options.requests;
  a.streams = [counters = streams] {
    constexpr auto relaxed = std::memory_order_relaxed;
    return stream_statistics{counters->active.load(relaxed), counters->waiting.load(relaxed),
                             counters->resumed.load(relaxed), counters->abandoned.load(relaxed),
                             counters->quarantined.load(relaxed)};
  };
  if (options.cluster) {
    a.components.push_back({"cluster", false});
    families.push_back(cluster::cluster_metrics(cluster_counters));
  }
  a.metrics = std::move(families);
  a.on_event = log_event;
  return std::make_shared<aggregation>(std::move(a), store, std::chrono::steady_clock::now());
}

std::vector<child_spec> service::state::children(const inference_backend& backend) {
  // The later children need the handles of the earlier ones; only the supervisor's thread touches this.
  struct started {
    model_supervisor_actor model;
  };
  auto shared = std::make_shared<started>();

  model_supervisor_options m;
  m.choice->file = options.model_path;
  m.directories = options.directories;
  m.generation = options.generation;
  m.load_threads = options.load_threads;
  m.backend = backend;
  m.aggregator = aggregator;
  m.on_served = [this](std::shared_ptr<const served_model> next) {
    const std::lock_guard lock(model_mutex);
    model.swap(next);  // the old one may be the last holder of its model: it goes after the lock
  };

  memory_supervisor_options mem;
  mem.aggregator = aggregator;
  mem.degraded_percent = options.memory_degraded_percent;
  mem.unhealthy_percent = options.memory_unhealthy_percent;

  // Readers that need no descriptor once they have begun, so that they can still tell when none is left.
  mem.measure = [read = keep_files_open(), others = backend.processes] {
    auto sample = measure_memory(read);
    if (sample && others)
      for (const auto& one : others()) sample->resident_bytes += largest_resident_bytes(with_engines(one));
    return sample;
  };
  mem.measure_pressure = [read = keep_files_open()] { return measure_memory_pressure(read); };

  process_supervisor_options p;
  p.aggregator = aggregator;
  p.measure = [meter = std::make_shared<process_meter>(options.log), offset = clock_offset_ns,
               inspected = config->inspected, limit = p.watch.stuck] {
    auto reading = (*meter)();
    // A worker waits for its engine and a loader for its disk: others judge those.
    reading.stuck = inspected->table.longest_stuck(limit, {"worker", "model-loader"});
    reading.wall += std::chrono::nanoseconds(offset->load(std::memory_order_relaxed));
    return reading;
  };

  engine_supervisor_options e;
  e.generation = options.generation;
  e.backend = backend;
  e.aggregator = aggregator;
  e.router = router;
  e.guard = guard;

  if (options.unwatched) {
    constexpr std::chrono::seconds hardly_ever{60};
    m.period = mem.period = p.period = e.period = hardly_ever;
    e.guard = nullptr;
    e.watched = false;
    e.watch.canary_overdue = std::chrono::hours(24);
  }

  // The first three read files, which may block: threads of their own, so that a dead disk stops only them.
  std::vector<child_spec> specs{
      {"model supervisor",
       [m, shared, this](caf::event_based_actor* parent, std::uint64_t) {
         shared->model = parent->spawn<caf::detached>(model_supervisor, m);
         const std::lock_guard lock(model_mutex);
         models = shared->model;
         return caf::actor_cast<caf::actor>(shared->model);
       }},
      {"memory supervisor",
       [mem](caf::event_based_actor* parent, std::uint64_t) {
         return caf::actor_cast<caf::actor>(parent->spawn<caf::detached>(memory_supervisor, mem));
       }},
      {"process supervisor",
       [p](caf::event_based_actor* parent, std::uint64_t) {
         return caf::actor_cast<caf::actor>(parent->spawn<caf::detached>(process_supervisor, p));
       }},
      {"engine supervisor",
       [e, shared, this](caf::event_based_actor* parent, std::uint64_t) mutable {
         e.model = shared->model;
         const auto handle = parent->spawn(engine_supervisor, e);
         const std::lock_guard lock(engine_mutex);
         engine = handle;
         parent->send(shared->model, subscribe_atom_v, handle);
         return caf::actor_cast<caf::actor>(handle);
       }},
  };
  if (options.gpu) {
    gpu_supervisor_options g;
    g.gpu = *options.gpu;
    g.aggregator = aggregator;
    // Last: nothing depends on it, so nothing restarts with it.
    specs.push_back({"GPU supervisor", [g](caf::event_based_actor* parent, std::uint64_t) {
                       return caf::actor_cast<caf::actor>(parent->spawn(gpu_supervisor, g));
                     }});
  }
  return specs;
}

fault_outcome service::state::break_engine(const fault_request& fault) {
  engine_supervisor_actor target;
  {
    const std::lock_guard lock(engine_mutex);
    target = engine;
  }
  if (!target) return tl::unexpected<std::string>("the engine's supervisor does not run");
  caf::scoped_actor self{*system};
  fault_outcome outcome = "";
  self->request(target, control_timeout, fault_atom_v, fault)
      .receive([&](std::string& done) { outcome = std::move(done); },
               [&](const caf::error& why) { outcome = tl::unexpected(describe(why).message); });
  return outcome;
}

void service::state::declare_engine_faults() {
  for (const auto& [name, help] : engine_drill::faults())
    options.faults->declare({name, help, [this](const fault_request& fault) { return break_engine(fault); }});
}

tl::expected<void, std::string> service::state::open_links() {
  if (!options.cluster) return {};
  auto opened = net::peer_links::open(*options.cluster->links);
  if (!opened) return tl::unexpected(std::move(opened.error()));
  links = std::move(*opened);
  return {};
}

void service::state::start_cluster() {
  const auto& settings = *options.cluster;
  const auto port = links->port();
  cluster::cluster_options c;
  c.self.id = cluster::random_node_id();
  c.self.model_hash = cluster::hash_model(options.model_path.string(), settings.logits);
  c.self.model = options.model_path.stem().string().substr(0, cluster::max_text_bytes);
  c.self.build =
      fmt::format("{} {}", options.build.version, options.build.git_sha).substr(0, cluster::max_text_bytes);
  c.self.capacity =
      static_cast<std::uint32_t>(options.generation.max_sequences + options.generation.max_queued);
  const auto with_port = [](const std::string& host, std::uint16_t to) {
    const bool bare_v6 = std::count(host.begin(), host.end(), ':') > 1 && !host.starts_with('[');
    if (bare_v6) return fmt::format("[{}]:{}", host, to);
    const auto colon = host.rfind(':');
    const bool has_port = colon != std::string::npos && (host.front() != '[' || host[colon - 1] == ']');
    return has_port ? host : fmt::format("{}:{}", host, to);
  };
  c.self.address = with_port(settings.advertise.empty() ? settings.links->address : settings.advertise, port);
  c.seeds = settings.seeds;
  if (!settings.dns.empty()) {
    const auto name = with_port(settings.dns, port);
    c.dns = net::host_part(name);
    c.dns_port = static_cast<std::uint16_t>(std::strtoul(name.c_str() + name.rfind(':') + 1, nullptr, 10));
  }
  c.links = links;
  c.router = router;
  c.aggregator = aggregator;
  c.counters = cluster_counters;
  c.published = published_cluster;
  spdlog::info("cluster: this is {} at {}", cluster::to_string(c.self.id), c.self.address);
  auto handler_self = c.self;
  cluster = system->spawn<caf::detached>(cluster::cluster_member, std::move(c));
  *cluster_link = cluster;
  links->run(cluster::handler_for(cluster, handler_self));
}

void service::state::start_actors(const inference_backend& backend) {
  auto judged = make_aggregation(backend);
  judged->publish(std::chrono::steady_clock::now(), std::chrono::system_clock::now());
  aggregator_guard_options g;
  g.aggregator.state = std::move(judged);
  if (options.unwatched) g.aggregator.publish_period = snapshot_store::stale_after * 3 / 4;
  aggregator = system->spawn(aggregator_guard, std::move(g));
  if (options.faults) declare_server_faults(*options.faults, aggregator, clock_offset_ns);
  router_options r;
  r.seed = std::random_device{}();
  r.resume.new_request_wait = options.replace_wait;
  r.resume.resume_wait = options.resume_wait;
  r.counters = streams;
  if (links) {
    r.on_announce = [to = cluster_link](const announced_worker& w) {
      caf::anon_send(*to, announce_atom_v, w);
    };
    r.on_withdraw = [to = cluster_link](std::uint64_t id, std::uint64_t incarnation) {
      caf::anon_send(*to, withdraw_atom_v, id, incarnation);
    };
  }
  router = system->spawn(actors::router, std::move(r));
  if (links) start_cluster();

  supervisor_options s;
  s.name = "root supervisor";
  s.children = children(backend);
  s.restarted = [to = aggregator](const std::string& child, std::uint64_t incarnation) {
    caf::anon_send(to, health_note{"server", "supervisor_restarted",
                                   fmt::format("the {} was restarted, incarnation {}", child, incarnation)});
  };
  s.escalate = [to = aggregator](const std::string& why) { caf::anon_send(to, escalate_atom_v, why); };
  root = system->spawn(supervisor, std::move(s));
  caf::anon_send(aggregator, watch_atom_v, root, "root supervisor");
  if (options.faults) declare_engine_faults();
}

template <class Handle>
bool service::state::end(const Handle& handle, std::chrono::milliseconds limit) {
  caf::scoped_actor self{*system};
  self->monitor(handle);
  self->send_exit(handle, caf::exit_reason::user_shutdown);
  bool ended = false;
  self->receive([&](const caf::down_msg&) { ended = true; }, caf::after(limit) >> [] {});
  return ended;
}

bool service::state::wait_idle(std::chrono::milliseconds limit) const {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (streams->active.load() != 0) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

service::service(std::unique_ptr<state> s) : state_(std::move(s)) {}

service::~service() {
  if (state_->root) stop(std::chrono::milliseconds(0), std::chrono::seconds(10));
}

tl::expected<std::unique_ptr<service>, std::string> service::start(service_options options,
                                                                   inference_backend backend) {
  if (auto wrong = check_options(options)) return tl::unexpected(std::move(*wrong));
  auto s = std::make_unique<state>(std::move(options));
  if (auto opened = s->open_links(); !opened) return tl::unexpected(std::move(opened.error()));
  s->config.emplace(s->options.scheduler_threads);
  s->system.emplace(*s->config);
  if (auto wrong = check_effective(*s->system, s->options.scheduler_threads))
    return tl::unexpected(std::move(*wrong));
  s->start_actors(backend);
  return std::unique_ptr<service>(new service(std::move(s)));
}

const snapshot_store& service::snapshots() const noexcept {
  return *state_->store;
}
void service::report(component_report report) {
  if (state_->aggregator) caf::anon_send(state_->aggregator, std::move(report));
}
router_actor service::router() const {
  return state_->router;
}
std::shared_ptr<const std::string> service::cluster_document() const {
  return state_->published_cluster->latest();
}
cluster_actor service::cluster() const {
  return state_->cluster;
}
caf::actor_system& service::system() noexcept {
  return *state_->system;
}
bool service::on_gpu() const noexcept {
  return state_->options.gpu && !state_->options.gpu->use.devices.empty();
}
bool service::idle() const noexcept {
  return state_->streams->active.load() == 0;
}

std::shared_ptr<introspection> service::inspected() const {
  return state_->config->inspected;
}

void service::request_drain(bool draining) {
  if (draining) {
    caf::anon_send(state_->aggregator, drain_atom_v);
    caf::anon_send(state_->router, drain_atom_v);
    if (const auto m = models()) caf::anon_send(m, drain_atom_v);
    if (state_->cluster) caf::anon_send(state_->cluster, drain_atom_v);
  } else {
    if (state_->cluster) caf::anon_send(state_->cluster, undrain_atom_v);
    caf::anon_send(state_->router, undrain_atom_v);
    if (const auto m = models()) caf::anon_send(m, undrain_atom_v);
    caf::anon_send(state_->aggregator, undrain_atom_v);
  }
}

void service::request_cancel(engine::request_id request) {
  caf::anon_send(state_->router, cancel_atom_v, request);
}

std::shared_ptr<const served_model> service::model() const {
  const std::lock_guard lock(state_->model_mutex);
  return state_->model;
}

model_supervisor_actor service::models() const {
  const std::lock_guard lock(state_->model_mutex);
  return state_->models;
}

void service::drain() {
  if (!state_->aggregator) return;
  caf::scoped_actor self{*state_->system};
  auto ask = [&](const auto& actor, const char* name) {
    self->request(actor, control_timeout, drain_atom_v)
        .receive([](bool) {},
                 [&](const caf::error& error) {
                   spdlog::error("drain: the {} did not answer: {}", name, caf::to_string(error));
                 });
  };
  ask(state_->aggregator, "aggregator");
  ask(state_->router, "router");
  if (state_->cluster) ask(state_->cluster, "cluster");
  if (const auto m = models()) caf::anon_send(m, drain_atom_v);
}

bool service::stop(std::chrono::milliseconds drain_deadline, std::chrono::milliseconds hard_limit) {
  if (!state_->root) return true;
  const hard_deadline guard(drain_deadline + hard_limit);
  drain();
  const bool drained = state_->wait_idle(drain_deadline);
  if (state_->cluster) {
    // Others' streams go back to their gateways before the workers end, which then go on elsewhere at once.
    caf::scoped_actor self{*state_->system};
    self->request(state_->cluster, control_timeout, stop_atom_v)
        .receive([](bool) {}, [](const caf::error&) {});
  }
  if (!drained) spdlog::warn("stop: {} requests are cut off", state_->streams->active.load());
  if (!state_->end(state_->root, hard_limit)) spdlog::error("stop: an actor does not end");
  if (state_->cluster) {
    state_->links->stop();
    state_->end(state_->cluster, control_timeout);
    state_->cluster = nullptr;
  }
  state_->end(state_->router, control_timeout);
  *state_->cluster_link = nullptr;  // the router reads it until its end
  state_->end(state_->aggregator, control_timeout);
  state_->root = nullptr;
  state_->engine = nullptr;
  {
    const std::lock_guard lock(state_->model_mutex);
    state_->models = nullptr;
  }
  state_->router = nullptr;
  state_->aggregator = nullptr;
  state_->system.reset();  // waits for every actor, hence the guard
  return drained;
}

}  // namespace bitnet::actors
