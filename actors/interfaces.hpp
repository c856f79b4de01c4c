#pragma once

#include "actors/cluster/link_event.hpp"
#include "actors/messages.hpp"

#include <caf/all.hpp>

#include <cstdint>
#include <memory>
#include <string>

// Every actor of the server: who sends what to whom. "Errors" are those that the sender of a request may get
// besides CAF's own (a dead receiver answers sec::request_receiver_down; describe() in error.hpp translates).
// A handler answers at once unless its comment says "delayed".

namespace bitnet::actors {

/// token_sink_actor (messages.hpp): who wants the tokens of a request; implemented by the application.
///   (token_frame)  from the worker, in order; the last one has finish != none and always comes, also where
///                  the worker dies. When the sink itself ends, the worker cancels its requests.

/// Owns one inference engine and its batching loop, on a thread of its own. Ends by itself on an exception,
/// and with worker_lost when the process of its engine has ended.
using worker_actor = caf::typed_actor<
    // Router: continue a sequence. Delayed by at most one step of the engine. The attempt is the sender's
    // count of submissions of this request. Errors: the engine's refusals (invalid_request, prompt_too_long,
    // out_of_kv_cache, queue_full), draining, no_worker (the engine did not start).
    caf::replies_to<submit_atom, engine::generation_request, std::uint32_t,
                    token_sink_actor>::with<submit_receipt>,
    // Router: end a request; its sink gets a last frame with finish_reason::cancelled. Unknown: ignored.
    caf::reacts_to<cancel_atom, engine::request_id>,
    // Engine supervisor: refuse new requests from now on.
    caf::reacts_to<drain_atom>,
    // Itself, first: build the engine and its golden canary. Blocks its thread, seconds on large models.
    caf::reacts_to<start_atom>,
    // Itself: one step of the engine, then its frames.
    caf::reacts_to<step_atom>,
    // Itself, every second: run the canary if it is due.
    caf::reacts_to<canary_atom>,
    // Engine supervisor: break the engine (drills). What was done. Errors: invalid_request (why not),
    // no_worker.
    caf::replies_to<fault_atom, fault_request>::with<std::string>,
    // Console. Delayed by at most one step.
    caf::replies_to<status_atom>::with<worker_status>>;

struct worker_board;

/// A worker that takes requests, and where to read its load. Stays in this process.
struct announced_worker {
  worker_actor handle;
  std::shared_ptr<const worker_board> board;
  std::uint64_t capacity = 0;  ///< sequences that it runs or lets wait
  std::uint64_t batch = 0;     ///< sequences that it runs together; 0: all
  std::uint64_t model = 0;     ///< slot of its model: it gets that one's requests alone
};

}  // namespace bitnet::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(bitnet::actors::announced_worker)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(bitnet::actors::cluster::link_event)

namespace bitnet::actors {

/// The only address that clients keep. Chooses a worker for each request, and another one when that is lost:
/// a sink sees one uninterrupted sequence of frames.
using router_actor = caf::typed_actor<
    // Application: start, or with `emitted` tokens resume, a sequence of the model in this slot
    // (served_model), whose tokenizer made the prompt: no worker of another one gets it. Delayed: a worker
    // answers, and where one is being replaced it is waited for (resume_options). Errors: the worker's;
    // draining, no_worker, overloaded, request_quarantined.
    caf::replies_to<submit_atom, std::uint64_t, engine::generation_request, std::uint32_t,
                    token_sink_actor>::with<submit_receipt>,
    // Application: end a request wherever it runs. Its sink gets a last frame with finish_reason::cancelled.
    caf::reacts_to<cancel_atom, engine::request_id>,
    // Workers: tokens of a stream; `request` is the router's own number of it.
    caf::reacts_to<token_frame>,
    // Engine supervisor: this worker takes requests. Replaces older incarnations of the same id.
    caf::reacts_to<announce_atom, announced_worker>,
    // Engine supervisor: send this worker (id, incarnation) nothing new. Ignored for another incarnation than
    // the known one.
    caf::reacts_to<withdraw_atom, std::uint64_t, std::uint64_t>,
    // Engine supervisor: there will be no worker of the model in this slot any more. Streams that it still
    // has end with worker_lost.
    caf::reacts_to<release_atom, std::uint64_t>,
    // Itself, while streams wait for a worker.
    caf::reacts_to<tick_atom>,
    // Service: refuse new requests from now on. Answers true.
    caf::replies_to<drain_atom>::with<bool>,
    // Service: take new requests again.
    caf::reacts_to<undrain_atom>>;

/// This process as a member of a cluster: keeps the links to other nodes, offers the workers of this process
/// to them and theirs to the router, each through a remote_worker. Component "cluster".
using cluster_actor = caf::typed_actor<
    // The links' thread.
    caf::reacts_to<cluster::link_event>,
    // Itself, each 100 ms.
    caf::reacts_to<tick_atom>,
    // Router: workers of this process, to be offered to others.
    caf::reacts_to<announce_atom, announced_worker>,
    caf::reacts_to<withdraw_atom, std::uint64_t, std::uint64_t>,
    // remote_worker (by the number that the cluster gave it): continue a sequence there. Delayed: the other
    // node answers, or does not for some time. Errors: the worker's, and worker_lost.
    caf::replies_to<submit_atom, std::uint64_t, engine::generation_request, std::uint32_t,
                    token_sink_actor>::with<submit_receipt>,
    caf::reacts_to<cancel_atom, std::uint64_t, engine::request_id>,
    // Workers of this process: tokens of a sequence that another node sent.
    caf::reacts_to<token_frame>,
    // Service: take nothing new from others; tell them, with the next tick. Answers true.
    caf::replies_to<drain_atom>::with<bool>,
    // Service: all of that again.
    caf::reacts_to<undrain_atom>,
    // Service: hand back what others sent, say good-bye. Answers true; end it then.
    caf::replies_to<stop_atom>::with<bool>,
    // Application: the members as JSON.
    caf::replies_to<status_atom>::with<std::string>,
    // Application: read the certificates again.
    caf::reacts_to<reload_atom>>;

/// Publishes the health snapshot; see aggregation.hpp for the rules. Behind a guard that starts it again
/// (aggregator_guard.hpp). When it hangs, the snapshot goes stale, and every probe says so.
using aggregator_actor = caf::typed_actor<
    // Supervisors, each period: how their component is.
    caf::reacts_to<component_report>,
    // Supervisors: something for the history of the server's health.
    caf::reacts_to<health_note>,
    // Memory supervisor, each period.
    caf::reacts_to<memory_sample>,
    // Engine supervisor, each period.
    caf::reacts_to<engine_sample>,
    // Itself, each publication period.
    caf::reacts_to<tick_atom>,
    // Service: readiness off. Answers true when the published snapshot says so.
    caf::replies_to<drain_atom>::with<bool>,
    // Service: readiness on again.
    caf::reacts_to<undrain_atom>,
    // Root supervisor: restarting does not help any more; liveness fails from now on.
    caf::reacts_to<escalate_atom, std::string>,
    // Service: liveness fails when this actor ends (name for the message).
    caf::reacts_to<watch_atom, caf::actor, std::string>,
    // Fault injection: hang for these seconds; none: end as after a bug.
    caf::reacts_to<stop_atom, double>>;

/// Owns the workers, one a model: starts each when its model is there, watches it through shared atomics,
/// replaces it. Component "inference_engine", which is the serving model's.
using engine_supervisor_actor = caf::typed_actor<
    // Model supervisor: run this model, in this role. Replaces the running one of its slot.
    caf::reacts_to<loaded_model>,
    // Model supervisor: stop using the model in this slot now, its weights went bad (why). Until the next
    // loaded_model.
    caf::reacts_to<fence_atom, std::uint64_t, std::string>,
    // Model supervisor: the model in this slot serves no more, and finishes its streams.
    caf::reacts_to<retire_atom, std::uint64_t>,
    // Model supervisor: end the worker of this slot for good, and cut off what streams it may have. Answered
    // with release_atom when that is done, also where there is none.
    caf::reacts_to<release_atom, std::uint64_t>,
    // Itself, each period.
    caf::reacts_to<tick_atom>,
    // Worker: it has started, so look at it now.
    caf::reacts_to<status_atom>,
    // Service: break the worker's engine (drills). The worker's answer and errors.
    caf::replies_to<fault_atom, fault_request>::with<std::string>,
    // Itself, after the back-off: start the next incarnation of a slot (generation; others are stale and
    // ignored).
    caf::reacts_to<restart_atom, std::uint64_t, std::uint64_t>>;

/// Loads model files, guards the serving one's identity, and has it replaced on request (model_changes.cpp).
/// Component "model".
using model_supervisor_actor = caf::typed_actor<
    // Itself, each period.
    caf::reacts_to<tick_atom>,
    // A loader, once.
    caf::reacts_to<load_outcome>,
    // Application: load this file and serve it instead of the model that serves now, which goes on until
    // then. Delayed until the new one serves. Errors: models_fixed, path_not_allowed, change_in_progress,
    // draining, those of loading, internal (its engine does not work).
    caf::replies_to<load_atom, std::string>::with<loaded_model>,
    // Application: serve the model of this name no more. Answers its name; its streams are finished. Errors:
    // models_fixed, change_in_progress, model_not_found.
    caf::replies_to<unload_atom, std::string>::with<std::string>,
    // Service: the server is about to end. Refuses loads, and gives up one that runs.
    caf::reacts_to<drain_atom>,
    // Service: go on as usual.
    caf::reacts_to<undrain_atom>,
    // Engine supervisor: the candidate in this slot has proved itself and serves from now on.
    caf::reacts_to<ready_atom, std::uint64_t>,
    // Engine supervisor: the candidate in this slot does not work (why), and has been ended.
    caf::reacts_to<reject_atom, std::uint64_t, std::string>,
    // Engine supervisor: nothing uses the model in this slot any more.
    caf::reacts_to<release_atom, std::uint64_t>,
    // Engine supervisor: the weights in this slot give wrong results. Fences the engine off and loads the
    // file again, or says that it does not help any more.
    caf::reacts_to<reload_atom, std::uint64_t>,
    // Root supervisor: send loaded models here.
    caf::reacts_to<subscribe_atom, engine_supervisor_actor>>;

/// Measures memory. Component "memory".
using memory_supervisor_actor = caf::typed_actor<
    // Itself, each period.
    caf::reacts_to<tick_atom>>;

/// Watches descriptors, threads, the log and the clocks of this process. Component "process", non-critical.
using process_supervisor_actor = caf::typed_actor<
    // Itself, each period.
    caf::reacts_to<tick_atom>>;

/// Watches a GPU through NVML. Component "gpu", non-critical while the CPU can serve; absent from builds
/// without CUDA.
using gpu_supervisor_actor = caf::typed_actor<
    // Itself, each period.
    caf::reacts_to<tick_atom>>;

}  // namespace bitnet::actors
