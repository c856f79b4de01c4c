#pragma once

#include "actors/aggregator_guard.hpp"
#include "actors/engine_supervisor.hpp"
#include "actors/model_supervisor.hpp"
#include "actors/router.hpp"
#include "tests/unit/actors/fake_engine.hpp"
#include "tests/unit/actors/virtual_time.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace bitnet::tests {

using namespace actors;
using namespace std::chrono_literals;

/// The real aggregator, store and router, on virtual time.
struct aggregator_fixture : virtual_time {
  std::shared_ptr<fake_control> control = std::make_shared<fake_control>();
  std::shared_ptr<snapshot_store> store = std::make_shared<snapshot_store>([this] { return now(); });
  std::shared_ptr<aggregation> judged;
  aggregator_actor health;
  /// Lets nobody wait, so that each test sees what its own requests do.
  static router_options impatient() {
    router_options o;
    o.resume.new_request_wait = o.resume.resume_wait = 0ms;
    return o;
  }
  router_actor requests = system.spawn(router, impatient());
  std::vector<caf::actor> started;

  aggregator_fixture() {
    judged = std::make_shared<aggregation>(aggregation_options{}, store, now());
    health = system.spawn(aggregator, aggregator_options{judged});
  }

  template <class Handle>
  Handle keep(Handle handle) {
    started.push_back(caf::actor_cast<caf::actor>(handle));
    return handle;
  }

  std::string get(probe which) {
    std::string out;
    store->append_answer(which, false, true, out);
    return out;
  }
  bool ok(probe which) { return get(which).starts_with("HTTP/1.1 200"); }
  component_health component(std::string_view name) {
    for (auto& c : judged->evaluate(now(), {}).components)
      if (c.name == name) return c;
    return {};
  }
  void end(const caf::actor& a, caf::exit_reason reason = caf::exit_reason::kill) {
    caf::anon_send_exit(a, reason);
    settle();
  }

  ~aggregator_fixture() {
    control->during_step = nullptr;
    control->during_load = nullptr;
    for (const auto& a : started) end(a);
    end(caf::actor_cast<caf::actor>(requests));
    end(caf::actor_cast<caf::actor>(health));
    settle();
  }
};

struct model_fixture : aggregator_fixture {
  std::optional<engine::file_identity> file = engine::file_identity{1, 2, 1000, 5};
  engine::file_change change = engine::file_change::none;
  int handed_out = 0;
  std::function<void(model_supervisor_options&)> configure;
  decltype(inference_backend::check_room) check_room;
  model_supervisor_actor model;

  void start() {
    model_supervisor_options o;
    o.choice->file = "/models/tiny.gguf";
    o.backend = fake_backend(control);
    o.aggregator = health;
    o.identify = [this](const std::filesystem::path&) -> engine::result<engine::file_identity> {
      if (!file) return engine::fail(engine::error_code::file_not_found, "no such file");
      return *file;
    };
    o.detect = [this](const std::filesystem::path&, const engine::file_identity&) { return change; };
    o.detach_loader = false;
    o.on_served = [this](const auto& served) { handed_out = served ? handed_out + 1 : 0; };
    o.backend.check_room = check_room;
    if (configure) configure(o);
    model = keep(system.spawn(model_supervisor, std::move(o)));
    settle();
  }
};

struct engine_fixture : model_fixture {
  engine_supervisor_actor engine;
  std::shared_ptr<engine_ledger> ledger = std::make_shared<engine_ledger>();
  bool own_weights = false;            ///< each engine has its own
  std::vector<std::string> devices{};  ///< of the backend

  void start() {
    model_fixture::start();
    start_engine();
  }
  void start_engine() {
    engine_supervisor_options o;
    o.ledger = ledger;
    o.generation.max_sequences = 2;
    o.generation.max_queued = 2;
    o.backend = fake_backend(control);
    o.backend.own_weights = own_weights;
    o.backend.devices = devices;
    o.aggregator = health;
    o.router = requests;
    o.model = model;
    o.detach_worker = false;
    engine = keep(system.spawn(engine_supervisor, std::move(o)));
    caf::anon_send(model, subscribe_atom_v, engine);
    advance(1s);
  }
  /// Model and engine are healthy; memory, which has no supervisor here, is kept so.
  void report_memory() {
    component_report r;
    r.component = "memory";
    r.status = health_status::healthy;
    r.message = "fine";
    r.period_ns = 3'600'000'000'000;
    caf::anon_send(health, r);
    settle();
  }
  outcome<submit_receipt> route(engine::request_id id, const token_sink_actor& sink,
                                std::uint32_t max_tokens = 3) {
    return request<submit_receipt>(requests, submit_atom_v, std::uint64_t{0}, request_of(id, max_tokens),
                                   std::uint32_t{1}, sink);
  }
  component_health engine_health() { return component("inference_engine"); }
};

inline bool is(const component_health& c, health_status s) {
  return c.status == s;
}

}  // namespace bitnet::tests
