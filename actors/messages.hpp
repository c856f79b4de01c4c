#pragma once

#include "actors/error.hpp"
#include "actors/health.hpp"
#include "actors/inference_engine.hpp"
#include "engine/generation.hpp"
#include "engine/model.hpp"

#include <caf/all.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// The values that actors send each other. Fields are positional on the wire: never edit a struct that crosses
// nodes, add a successor.

namespace bitnet::engine {

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, sampling_params& x) {
  return f(x.temperature, x.top_p, x.min_p, x.top_k, x.repetition_penalty, x.frequency_penalty,
           x.presence_penalty, x.seed, x.logit_bias);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, token_logprob& x) {
  return f(x.id, x.logprob);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, sampled_token& x) {
  return f(x.id, x.logprob, x.top);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, generation_usage& x) {
  return f(x.prompt_tokens, x.completion_tokens, x.cached_tokens);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, generation_request& x) {
  return f(x.id, x.prompt, x.emitted, x.max_tokens, x.sampling, x.stop_tokens, x.top_logprobs,
           x.want_logprobs, x.json_schema, x.priority, x.client);
}

}  // namespace bitnet::engine

namespace bitnet::actors {

/// Answer to an accepted request.
struct submit_receipt {
  engine::request_id request = 0;
  std::uint32_t attempt = 0;
  std::uint64_t worker = 0;       ///< id of the worker that took it
  std::uint64_t incarnation = 0;  ///< of that worker
};

/// Tokens of one sequence, in order. `seq` counts the frames of an attempt from 0; the last frame, and only
/// it, has finish != none. Frames of an attempt that is not the current one must be dropped.
struct token_frame {
  engine::request_id request = 0;
  std::uint32_t attempt = 0;
  std::uint32_t seq = 0;
  std::vector<engine::sampled_token> tokens;
  engine::finish_reason finish = engine::finish_reason::none;
  engine::generation_usage usage;
  error_code error = error_code::none;  ///< with finish_reason::failed
  std::string error_message;
};

/// What an idle worker says of itself; a busy one answers after its step, so nobody who must be quick asks.
struct worker_status {
  std::uint64_t worker = 0;
  std::uint64_t incarnation = 0;
  bool draining = false;
  std::uint64_t running = 0;
  std::uint64_t queued = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, submit_receipt& x) {
  return f(x.request, x.attempt, x.worker, x.incarnation);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, token_frame& x) {
  return f(x.request, x.attempt, x.seq, x.tokens, x.finish, x.usage, x.error, x.error_message);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, worker_status& x) {
  return f(x.worker, x.incarnation, x.draining, x.running, x.queued);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, component_report& x) {
  return f(x.component, x.status, x.message, x.cannot_heal, x.check_ns, x.period_ns, x.code);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, health_note& x) {
  return f(x.component, x.code, x.message);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, memory_sample& x) {
  return f(x.resident_bytes, x.used_bytes, x.limit_bytes, x.limited_by_cgroup);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, device_sample& x) {
  return f(x.device, x.serves, x.running);
}

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, engine_sample& x) {
  return f(x.workers, x.worker_restarts, x.running, x.queued, x.queue_capacity, x.kv_blocks_used,
           x.kv_blocks_total, x.prompt_tokens, x.cached_tokens, x.generated_tokens, x.steps,
           x.failed_sequences, x.preemptions, x.canary_runs, x.step_seconds_p99, x.loader_pid, x.engine_pids,
           x.devices);
}

/// What becomes of a model's engine. Models have slots, counted from 0: one that is loaded again, because its
/// weights were lost or went bad, keeps its slot, and its streams go on; another model gets another one.
enum class model_role : std::uint8_t {
  serving,    ///< gets the requests; is kept running whatever happens
  candidate,  ///< becomes the serving one when its canary is good, and is given up where it does not start
  retiring,   ///< finishes its streams beside the serving one
};

/// A model that has just been loaded, or loaded again. Stays in this process.
struct loaded_model {
  std::shared_ptr<const engine::model> model;
  std::uint64_t load = 0;  ///< counts the loads of this process from 1
  std::uint64_t slot = 0;
  model_role role = model_role::serving;
};

/// The model that gets new requests. Stays in this process. Whoever works on a request keeps this until the
/// request has ended: an old model is unloaded when nobody has it any more.
struct served_model {
  std::shared_ptr<const engine::model> model;
  std::uint64_t slot = 0;
  std::shared_ptr<const void> lease;
};

/// How a load ended. Stays in this process.
struct load_outcome {
  std::uint64_t load = 0;
  tl::expected<std::shared_ptr<const engine::model>, failure> model;
  weight_scrub scrub;
};

/// Who gets the tokens of a request; see interfaces.hpp.
using token_sink_actor = caf::typed_actor<caf::reacts_to<token_frame>>;

}  // namespace bitnet::actors

CAF_BEGIN_TYPE_ID_BLOCK(bitnet, caf::first_custom_type_id)

CAF_ADD_TYPE_ID(bitnet, (bitnet::engine::sampling_params))
CAF_ADD_TYPE_ID(bitnet, (bitnet::engine::token_logprob))
CAF_ADD_TYPE_ID(bitnet, (bitnet::engine::sampled_token))
CAF_ADD_TYPE_ID(bitnet, (bitnet::engine::generation_usage))
CAF_ADD_TYPE_ID(bitnet, (bitnet::engine::generation_request))
CAF_ADD_TYPE_ID(bitnet, (bitnet::actors::submit_receipt))
CAF_ADD_TYPE_ID(bitnet, (bitnet::actors::token_frame))
CAF_ADD_TYPE_ID(bitnet, (bitnet::actors::worker_status))
CAF_ADD_TYPE_ID(bitnet, (bitnet::actors::component_report))
CAF_ADD_TYPE_ID(bitnet, (bitnet::actors::health_note))
CAF_ADD_TYPE_ID(bitnet, (bitnet::actors::memory_sample))
CAF_ADD_TYPE_ID(bitnet, (bitnet::actors::engine_sample))
CAF_ADD_TYPE_ID(bitnet, (bitnet::actors::token_sink_actor))

CAF_ADD_ATOM(bitnet, bitnet::actors, submit_atom, "submit")
CAF_ADD_ATOM(bitnet, bitnet::actors, cancel_atom, "cancel")
CAF_ADD_ATOM(bitnet, bitnet::actors, status_atom, "status")
CAF_ADD_ATOM(bitnet, bitnet::actors, start_atom, "start")
CAF_ADD_ATOM(bitnet, bitnet::actors, step_atom, "step")
CAF_ADD_ATOM(bitnet, bitnet::actors, canary_atom, "canary")
CAF_ADD_ATOM(bitnet, bitnet::actors, tick_atom, "tick")
CAF_ADD_ATOM(bitnet, bitnet::actors, drain_atom, "drain")
CAF_ADD_ATOM(bitnet, bitnet::actors, undrain_atom, "undrain")
CAF_ADD_ATOM(bitnet, bitnet::actors, announce_atom, "announce")
CAF_ADD_ATOM(bitnet, bitnet::actors, withdraw_atom, "withdraw")
CAF_ADD_ATOM(bitnet, bitnet::actors, restart_atom, "restart")
CAF_ADD_ATOM(bitnet, bitnet::actors, stop_atom, "stop")
CAF_ADD_ATOM(bitnet, bitnet::actors, reload_atom, "reload")
CAF_ADD_ATOM(bitnet, bitnet::actors, fence_atom, "fence")
CAF_ADD_ATOM(bitnet, bitnet::actors, subscribe_atom, "subscribe")
CAF_ADD_ATOM(bitnet, bitnet::actors, watch_atom, "watch")
CAF_ADD_ATOM(bitnet, bitnet::actors, escalate_atom, "escalate")
CAF_ADD_ATOM(bitnet, bitnet::actors, fault_atom, "fault")
CAF_ADD_ATOM(bitnet, bitnet::actors, load_atom, "load")
CAF_ADD_ATOM(bitnet, bitnet::actors, unload_atom, "unload")
CAF_ADD_ATOM(bitnet, bitnet::actors, ready_atom, "ready")
CAF_ADD_ATOM(bitnet, bitnet::actors, reject_atom, "reject")
CAF_ADD_ATOM(bitnet, bitnet::actors, retire_atom, "retire")
CAF_ADD_ATOM(bitnet, bitnet::actors, release_atom, "release")

CAF_END_TYPE_ID_BLOCK(bitnet)

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(bitnet::actors::loaded_model)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(bitnet::actors::load_outcome)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(bitnet::actors::fault_request)
