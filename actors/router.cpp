#include "actors/router.hpp"

#include "actors/worker_board.hpp"

#include <algorithm>
#include <utility>

namespace bitnet::actors {

std::optional<std::size_t> choose_of_two(const std::vector<std::uint64_t>& loads, std::minstd_rand& random) {
  if (loads.empty()) return std::nullopt;
  if (loads.size() == 1) return 0;
  std::uniform_int_distribution<std::size_t> any(0, loads.size() - 1);
  std::uniform_int_distribution<std::size_t> other(1, loads.size() - 1);
  const auto a = any(random);
  const auto b = (a + other(random)) % loads.size();
  return loads[b] < loads[a] ? b : a;
}

caf::result<submit_receipt> router_state::submit(engine::generation_request& request, std::uint32_t attempt,
                                                 const token_sink_actor& sink) {
  if (draining) return make_error(error_code::draining, "The server is shutting down; try another one.");
  bool any = false;
  std::vector<const worker_actor*> candidates;
  std::vector<std::uint64_t> loads;
  for (const auto& [worker, withdrawn] : workers) {
    if (withdrawn) continue;
    any = true;
    const auto load = worker.board->streams.load(std::memory_order_relaxed);
    if (load >= worker.capacity) continue;
    candidates.push_back(&worker.handle);
    loads.push_back(load);
  }
  if (!any) return make_error(error_code::no_worker, "No worker is ready; see /health for the reason.");
  const auto chosen = choose_of_two(loads, random);
  if (!chosen) return make_error(error_code::overloaded, "All places are taken; try again later.");
  return self->delegate(*candidates[*chosen], submit_atom_v, std::move(request), attempt, sink);
}

void router_state::announce(announced_worker worker) {
  const auto& board = *worker.board;
  std::erase_if(workers, [&](const routed_worker& w) {
    return w.worker.board->id == board.id && w.worker.board->incarnation < board.incarnation;
  });
  for (auto& known : workers) {
    if (known.worker.board->id != board.id) continue;
    if (known.worker.board->incarnation == board.incarnation) known.withdrawn = false;
    return;  // known, or newer than what is announced
  }
  self->monitor(worker.handle);
  workers.push_back({std::move(worker), false});
}

void router_state::withdraw(std::uint64_t id, std::uint64_t incarnation) {
  for (auto& known : workers)
    if (known.worker.board->id == id && known.worker.board->incarnation == incarnation)
      known.withdrawn = true;
}

void router_state::on_down(const caf::actor_addr& who) {
  std::erase_if(workers, [&](const routed_worker& w) { return w.worker.handle.address() == who; });
}

router_actor::behavior_type router(router_actor::stateful_pointer<router_state> self, std::uint32_t seed) {
  self->state.random.seed(seed);
  self->set_down_handler([self](caf::down_msg& down) { self->state.on_down(down.source); });
  return {
      [self](submit_atom, engine::generation_request& request, std::uint32_t attempt,
             const token_sink_actor& sink) { return self->state.submit(request, attempt, sink); },
      [self](cancel_atom, engine::request_id request) {
        for (const auto& known : self->state.workers) self->send(known.worker.handle, cancel_atom_v, request);
      },
      [self](announce_atom, announced_worker& worker) { self->state.announce(std::move(worker)); },
      [self](withdraw_atom, std::uint64_t id, std::uint64_t incarnation) {
        self->state.withdraw(id, incarnation);
      },
      [self](drain_atom) {
        self->state.draining = true;
        return true;
      },
  };
}

}  // namespace bitnet::actors
