#pragma once

#include "actors/cluster/identity.hpp"

#include <cstdint>
#include <memory>
#include <string_view>

namespace bitnet::actors::cluster {

/// What a node declares of itself. Only its owner changes it, and raises the incarnation with it.
enum class declaration : std::uint8_t {
  joining,   ///< there, but no worker takes requests yet
  alive,     ///< takes requests
  draining,  ///< takes nothing new
  left,      ///< gone for good, on purpose
};

/// A member as nodes tell each other. The greater incarnation is the newer; at the same incarnation, dead is.
struct member_record {
  std::shared_ptr<const node_description> node;  ///< never null
  std::uint64_t incarnation = 0;
  declaration declared = declaration::joining;
  bool dead = false;  ///< others' claim; a living owner answers it with a greater incarnation

  bool gone() const noexcept { return dead || declared == declaration::left; }
};

/// A member as one node sees it.
enum class member_state : std::uint8_t { joining, alive, suspect, dead, left, draining };

std::string_view to_string(member_state state) noexcept;

}  // namespace bitnet::actors::cluster
