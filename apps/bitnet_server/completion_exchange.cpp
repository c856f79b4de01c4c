#include "apps/bitnet_server/completion_exchange.hpp"

#include "apps/bitnet_server/api_answers.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace bitnet::apps {

namespace openai = http::openai;

namespace {

using steady_time = std::chrono::steady_clock::time_point;
using self_pointer = actors::instrumented_pointer<exchange_actor, completion_answer>;

/// More than a router takes to answer: it waits for a worker, and for the worker's current step, which may be
/// a long prefill on a slow machine.
constexpr std::chrono::seconds submit_timeout{300};

void fail(self_pointer self, const actors::failure& failure) {
  self->state.fail(to_api_error(failure));
  self->quit();
}

void submit(self_pointer self, const actors::router_actor& router, const completion_choice& choice) {
  constexpr std::uint32_t attempt = 1;
  const actors::token_sink_actor sink = exchange_actor{self};
  self->request(router, submit_timeout, actors::submit_atom::value, self->state.model_slot(), choice.request,
                attempt, sink)
      .then([self](const actors::submit_receipt&) { self->state.begin_stream(); },
            [self](const caf::error& error) { fail(self, actors::describe(error)); });
}

void finish(self_pointer self, completion_choice& choice, openai::finish_reason reason) {
  self->state.finish(choice, reason);
  if (!self->state.complete()) return;
  self->state.conclude();
  self->quit();
}

void on_frame(self_pointer self, const actors::router_actor& router, const actors::token_frame& frame) {
  auto* choice = self->state.find(frame.request);
  if (choice == nullptr || choice->finish) return;
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
      fail(self, {actors::error_code::draining,
                  "this request was cut off: the server is shutting down, or its operator cancelled it"});
      return;
    case engine::finish_reason::failed:
      fail(self, {frame.error, frame.error_message});
      return;
  }
}

/// When this exchange is to look again whether its stream is silent or its time over. CAF keeps an actor's
/// memory until its last reminder, also where it ended long ago: so none is set where none is needed, and
/// none for hours ahead.
void remind(self_pointer self, std::chrono::milliseconds ping_period, steady_time deadline) {
  constexpr std::chrono::seconds longest{15};
  if (ping_period.count() == 0 && deadline == steady_time::max()) return;
  std::chrono::nanoseconds wait = ping_period.count() > 0 ? ping_period : longest;
  wait =
      std::clamp<std::chrono::nanoseconds>(deadline - self->clock().now(), std::chrono::nanoseconds(0), wait);
  self->delayed_send(self, wait, actors::tick_atom::value);
}

}  // namespace

exchange_actor::behavior_type completion_exchange(self_pointer self, std::shared_ptr<api_context> context,
                                                  completion_call call,
                                                  std::shared_ptr<http::response_writer> writer) {
  const auto router = context->service.router();
  auto ping_period = context->ping_period;
  steady_time deadline = steady_time::max();
  if (auto prepared = self->state.prepare(std::move(context), call, std::move(writer)); !prepared) {
    self->state.fail(prepared.error());
    self->quit();
  } else {
    self->state.show(self->id());
    for (auto& choice : self->state.choices()) submit(self, router, choice);
    if (!self->state.streams()) ping_period = std::chrono::milliseconds(0);
    if (const auto timeout = self->state.timeout()) deadline = self->clock().now() + *timeout;
    remind(self, ping_period, deadline);
  }
  return {
      [self, router](const actors::token_frame& frame) { on_frame(self, router, frame); },
      [self, ping_period, deadline](actors::tick_atom) {
        if (self->clock().now() >= deadline) {
          self->state.fail(deadline_exceeded());
          self->quit();
          return;
        }
        if (ping_period.count() > 0) self->state.ping();
        remind(self, ping_period, deadline);
      },
  };
}

}  // namespace bitnet::apps
