#include "actors/introspection/introspection.hpp"

#include <caf/actor_cast.hpp>
#include <caf/actor_config.hpp>
#include <caf/actor_system.hpp>
#include <caf/error.hpp>
#include <caf/exit_reason.hpp>
#include <caf/local_actor.hpp>

#include <utility>

namespace bitnet::actors {

namespace {

thread_local std::uint64_t pending_incarnation = 0;
/// The actor whose handler runs on this thread: the parent of what it spawns through the system.
thread_local std::uint64_t current_actor = 0;

std::shared_ptr<introspection> inspected_by(caf::local_actor& self) {
  const auto* config = dynamic_cast<const introspected_config*>(&self.system().config());
  return config == nullptr ? nullptr : config->inspected;
}

/// Empty for an end that was asked for.
std::string failure_text(const caf::error& reason, caf::actor_system& system) {
  if (!reason || reason == caf::exit_reason::user_shutdown || reason == caf::exit_reason::normal) return {};
  return system.render(reason);
}

}  // namespace

actor_directory::actor_directory() = default;
actor_directory::~actor_directory() = default;

void actor_directory::add(caf::local_actor& actor) {
  const std::lock_guard lock(mutex_);
  actors_.emplace(actor.id(), caf::actor_cast<caf::weak_actor_ptr>(&actor));
}

void actor_directory::remove(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  actors_.erase(id);
}

caf::strong_actor_ptr actor_directory::find(std::uint64_t id) const {
  const std::lock_guard lock(mutex_);
  const auto found = actors_.find(id);
  return found == actors_.end() ? nullptr : found->second.lock();
}

supervised_spawn::supervised_spawn(std::uint64_t incarnation) noexcept {
  pending_incarnation = incarnation;
}
supervised_spawn::~supervised_spawn() {
  pending_incarnation = 0;
}

process_probe::process_probe(caf::local_actor& self, const caf::actor_config& config)
    : self_(self),
      inspected_(inspected_by(self)),
      parent_(config.parent != nullptr ? config.parent->id() : current_actor) {
  if (pending_incarnation == 0) return;
  supervised_ = true;
  incarnation_ = std::exchange(pending_incarnation, 0);
}

process_probe::~process_probe() {
  if (!inspected_) return;
  inspected_->directory.remove(self_.id());
  if (slot_ != nullptr) inspected_->table.remove(*slot_);
}

void process_probe::launched(std::string_view name) {
  if (!inspected_) return;
  slot_ = inspected_->table.add({self_.id(), parent_, name, incarnation_, supervised_});
  inspected_->directory.add(self_);
}

void process_probe::rename(std::string_view name) noexcept {
  if (slot_ != nullptr) inspected_->table.rename(*slot_, name);
}

void process_probe::set_patience(std::chrono::nanoseconds patience) noexcept {
  if (slot_ != nullptr) inspected_->table.set_patience(*slot_, patience);
}

void process_probe::arrived() noexcept {
  if (slot_ != nullptr) inspected_->table.arrived(*slot_);
}

void process_probe::ended(const caf::error& reason) {
  if (std::exchange(ended_, true)) return;  // CAF may clean up twice
  if (slot_ != nullptr) inspected_->table.ended(*slot_, failure_text(reason, self_.system()));
}

process_probe::handling::handling(process_probe& probe, const message_kind& kind) noexcept
    : probe_(probe), spawner_before_(std::exchange(current_actor, probe.self_.id())) {
  if (probe_.slot_ != nullptr) probe_.inspected_->table.begin(*probe_.slot_, kind);
}

process_probe::handling::~handling() {
  if (probe_.slot_ != nullptr) probe_.inspected_->table.end(*probe_.slot_, consumed_);
  current_actor = spawner_before_;
}

}  // namespace bitnet::actors
