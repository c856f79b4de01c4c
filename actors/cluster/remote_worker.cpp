#include "actors/cluster/remote_worker.hpp"

#include "actors/cluster/message.hpp"

#include <utility>

namespace bitnet::actors::cluster {

worker_actor::behavior_type remote_worker(worker_actor::pointer self, remote_worker_options options) {
  const auto cluster = std::move(options.cluster);
  const auto number = options.number;
  return {
      [self, cluster, number](submit_atom, engine::generation_request& request, std::uint32_t attempt,
                              const token_sink_actor& sink) -> caf::result<submit_receipt> {
        return self->delegate(cluster, submit_atom_v, number, std::move(request), attempt, sink);
      },
      [self, cluster, number](cancel_atom, engine::request_id request) {
        self->send(cluster, cancel_atom_v, number, request);
      },
      // The other node drains, starts, steps and proves its workers itself.
      [](drain_atom) {},
      [](start_atom) {},
      [](step_atom) {},
      [](canary_atom) {},
      [](fault_atom, const fault_request&) -> caf::result<std::string> {
        return make_error(error_code::invalid_request,
                          "The worker is another node's: cause its faults there.");
      },
      [board = std::move(options.board)](status_atom) {
        constexpr auto relaxed = std::memory_order_relaxed;
        return worker_status{board->id, board->incarnation, false, board->running.load(relaxed),
                             board->queued.load(relaxed)};
      },
  };
}

bool fits_message(const engine::generation_request& request) noexcept {
  constexpr std::size_t other_fields = 1024;
  const auto tokens = request.prompt.size() + request.emitted.size() + request.stop_tokens.size();
  const auto bytes = tokens * sizeof(engine::token_id) + request.json_schema.size() +
                     request.sampling.logit_bias.size() * sizeof(request.sampling.logit_bias.front());
  return bytes + other_fields <= max_message_bytes;
}

}  // namespace bitnet::actors::cluster
