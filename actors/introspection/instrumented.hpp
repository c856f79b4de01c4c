#pragma once

#include "actors/introspection/introspection.hpp"
#include "actors/introspection/mailbox_order.hpp"

#include <caf/all.hpp>

#include <string_view>
#include <utility>

namespace bitnet::actors {

/// Puts an event-based actor, typed or not, scheduled or detached, into its system's process table. CAF 0.17
/// cannot list actors or say what they do; its `enqueue` and `consume` are virtual, and tell all.
///
/// Used as the base of the actor (`instrumented_pointer` as the type of self), which changes nothing else but
/// that an actor's time-outs end with it. Costs 0.3 to 0.7 us a message on a busy virtual machine
/// (tests/bench/introspection_bench.cpp).
template <class Base>
class instrumented : public Base {
 public:
  template <class... Ts>
  explicit instrumented(caf::actor_config& config, Ts&&... xs)
      : Base(config, std::forward<Ts>(xs)...), probe_(*this, config) {}

  /// Of an actor without a state that has a name. From the actor's own thread.
  void set_process_name(std::string_view name) noexcept { probe_.rename(name); }
  /// See process_table::set_patience; for actors whose handlers take long by design.
  void set_patience(std::chrono::nanoseconds patience) noexcept { probe_.set_patience(patience); }

  using Base::enqueue;
  void enqueue(caf::mailbox_element_ptr element, caf::execution_unit* host) override {
    order_.before_enqueue();
    probe_.arrived();  // first: the receiver may have handled it before the call below returns
    Base::enqueue(std::move(element), host);
  }

  void launch(caf::execution_unit* host, bool lazy, bool hide) override {
    probe_.launched(this->name());
    order_.before_enqueue();
    Base::launch(host, lazy, hide);
  }

  void initialize() override {
    order_.before_handling();
    const process_probe::handling running(probe_, message_kind::start());
    Base::initialize();
    order_.after_handling();
  }

  using Base::consume;
  caf::invoke_message_result consume(caf::mailbox_element& element) override {
    order_.before_handling();
    process_probe::handling running(probe_, message_kind::of(element));
    const auto result = Base::consume(element);
    if (result == caf::invoke_message_result::skipped) running.keep_in_mailbox();
    order_.after_handling();
    return result;
  }

  bool cleanup(caf::error&& reason, caf::execution_unit* host) override {
    order_.before_handling();
    probe_.ended(reason);
    // CAF 0.17 keeps them, and this actor's memory with them, until they are due.
    this->clock().cancel_timeouts(this);
    return Base::cleanup(std::move(reason), host);
  }

  ~instrumented() override { order_.before_handling(); }

 private:
  process_probe probe_;
  [[no_unique_address]] mailbox_order order_;
};

/// The type of self in an actor function: of a typed handle, or of caf::actor.
template <class Handle>
struct instrumented_base_of {
  using type = instrumented<typename Handle::base>;
};
template <>
struct instrumented_base_of<caf::actor> {
  using type = instrumented<caf::event_based_actor>;
};

template <class Handle, class State>
using instrumented_pointer = caf::stateful_actor<State, typename instrumented_base_of<Handle>::type>*;

/// For actors without state.
using instrumented_actor = instrumented<caf::event_based_actor>;

}  // namespace bitnet::actors
