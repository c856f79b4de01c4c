#pragma once

#include "actors/introspection/process_table.hpp"

#include <caf/actor_control_block.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/fwd.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>

namespace bitnet::actors {

/// Finds live actors by id, to act on them. A short lock at spawn, end and look-up; never on a message's
/// path.
class actor_directory {
 public:
  actor_directory();
  ~actor_directory();

  void add(caf::local_actor& actor);
  void remove(std::uint64_t id);
  /// Null where it is gone.
  caf::strong_actor_ptr find(std::uint64_t id) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, caf::weak_actor_ptr> actors_;
};

/// What the instrumented actors of one system report to.
struct introspection {
  process_table table;
  actor_directory directory;

  introspection() = default;
  explicit introspection(process_table::clock now) : table(4096, std::move(now)) {}
};

/// Base of the configuration of a system whose instrumented actors report. In a system with another
/// configuration they work as well, and report nowhere.
class introspected_config : public caf::actor_system_config {
 public:
  std::shared_ptr<introspection> inspected = std::make_shared<introspection>();
};

/// While it lives, the next actor that this thread spawns is this incarnation of a supervised one.
class supervised_spawn {
 public:
  explicit supervised_spawn(std::uint64_t incarnation) noexcept;
  ~supervised_spawn();
  supervised_spawn(const supervised_spawn&) = delete;
  supervised_spawn& operator=(const supervised_spawn&) = delete;
};

/// One actor's connection to the table; does nothing where there is none.
class process_probe {
 public:
  process_probe(caf::local_actor& self, const caf::actor_config& config);
  ~process_probe();
  process_probe(const process_probe&) = delete;
  process_probe& operator=(const process_probe&) = delete;

  void launched(std::string_view name);
  void rename(std::string_view name) noexcept;
  void set_patience(std::chrono::nanoseconds patience) noexcept;
  void arrived() noexcept;
  void ended(const caf::error& reason);

  /// A message in hand, from construction to destruction, also where the handler throws.
  class handling {
   public:
    handling(process_probe& probe, const message_kind& kind) noexcept;
    ~handling();
    handling(const handling&) = delete;
    handling& operator=(const handling&) = delete;
    void keep_in_mailbox() noexcept { consumed_ = false; }

   private:
    process_probe& probe_;
    std::uint64_t spawner_before_;
    bool consumed_ = true;
  };

 private:
  caf::local_actor& self_;
  std::shared_ptr<introspection> inspected_;  ///< outlives the configuration for late handles
  process_slot* slot_ = nullptr;
  std::uint64_t parent_ = 0;
  std::uint64_t incarnation_ = 1;
  bool supervised_ = false;
  bool ended_ = false;
};

}  // namespace bitnet::actors
