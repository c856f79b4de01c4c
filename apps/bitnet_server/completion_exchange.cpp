#include "apps/bitnet_server/completion_exchange.hpp"

#include "apps/bitnet_server/api_answers.hpp"

#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

namespace bitnet::apps {

namespace openai = http::openai;

namespace {

using self_pointer = exchange_actor::stateful_pointer<completion_answer>;

/// A worker answers after its current step, which may be a long prefill on a slow machine.
constexpr std::chrono::seconds submit_timeout{120};
/// How often, and after how many lost workers no more, a sequence is offered to the next worker.
constexpr std::chrono::milliseconds resubmit_period{100};
constexpr std::uint32_t max_resubmissions = 300;
/// A request that was there when two workers died is suspected of having killed them.
constexpr std::uint32_t max_losses = 2;

void submit(self_pointer self, const actors::router_actor& router, completion_choice& choice);

void fail(self_pointer self, const actors::failure& failure) {
  self->state.fail(to_api_error(failure));
  self->quit();
}

/// After a lost worker: offer the sequence, with the tokens it has, to the next one.
void resubmit_later(self_pointer self, completion_choice& choice, const actors::failure& why) {
  if (++choice.attempt > max_resubmissions) {
    fail(self, why);
    return;
  }
  self->delayed_send(self, resubmit_period, actors::restart_atom::value, choice.request.id);
}

void submit(self_pointer self, const actors::router_actor& router, completion_choice& choice) {
  const auto id = choice.request.id;
  const actors::token_sink_actor sink = exchange_actor{self};
  self->request(router, submit_timeout, actors::submit_atom::value, choice.request, choice.attempt, sink)
      .then([self](const actors::submit_receipt&) { self->state.begin_stream(); },
            [self, id](const caf::error& error) {
              auto* refused = self->state.find(id);
              const auto why = actors::describe(error);
              const bool may_come_back =
                  why.code == actors::error_code::no_worker || why.code == actors::error_code::worker_lost;
              if (refused != nullptr && refused->losses > 0 && may_come_back)
                resubmit_later(self, *refused, why);
              else
                fail(self, why);
            });
}

void finish(self_pointer self, completion_choice& choice, openai::finish_reason reason) {
  self->state.finish(choice, reason);
  if (!self->state.complete()) return;
  self->state.conclude();
  self->quit();
}

void on_loss(self_pointer self, completion_choice& choice, const actors::failure& why) {
  if (++choice.losses < max_losses) {
    spdlog::warn("request {}: its worker was lost after {} tokens; resuming", choice.request.id,
                 choice.request.emitted.size());
    resubmit_later(self, choice, why);
    return;
  }
  spdlog::error("request {}: {} workers were lost with it; giving it up", choice.request.id, choice.losses);
  fail(self, {actors::error_code::internal,
              "two workers ended while they worked on this request; it is not tried again"});
}

void on_frame(self_pointer self, const actors::router_actor& router, const actors::token_frame& frame) {
  auto* choice = self->state.find(frame.request);
  if (choice == nullptr || choice->finish || frame.attempt != choice->attempt) return;
  self->state.begin_stream();
  choice->usage = frame.usage;
  if (self->state.take(*choice, frame.tokens)) {
    if (frame.finish == engine::finish_reason::none)
      self->send(router, actors::cancel_atom::value, frame.request);
    finish(self, *choice, openai::finish_reason::stop);
    return;
  }
  switch (frame.finish) {
    case engine::finish_reason::none:
      return;
    case engine::finish_reason::stop:
      finish(self, *choice, openai::finish_reason::stop);
      return;
    case engine::finish_reason::length:
      finish(self, *choice, openai::finish_reason::length);
      return;
    case engine::finish_reason::cancelled:
      fail(self, {actors::error_code::draining, "the server is shutting down and cut this request off"});
      return;
    case engine::finish_reason::failed:
      if (frame.error == actors::error_code::worker_lost)
        on_loss(self, *choice, {frame.error, frame.error_message});
      else
        fail(self, {frame.error, frame.error_message});
      return;
  }
}

}  // namespace

exchange_actor::behavior_type completion_exchange(self_pointer self, std::shared_ptr<api_context> context,
                                                  completion_kind kind, std::string body,
                                                  std::shared_ptr<http::response_writer> writer) {
  const auto router = context->service.router();
  if (auto prepared = self->state.prepare(std::move(context), kind, body, std::move(writer)); !prepared) {
    self->state.fail(prepared.error());
    self->quit();
  } else {
    for (auto& choice : self->state.choices()) submit(self, router, choice);
  }
  return {
      [self, router](const actors::token_frame& frame) { on_frame(self, router, frame); },
      [self, router](actors::restart_atom, engine::request_id id) {
        if (auto* choice = self->state.find(id); choice != nullptr && !choice->finish)
          submit(self, router, *choice);
      },
  };
}

}  // namespace bitnet::apps
