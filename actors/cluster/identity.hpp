#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bitnet::actors::cluster {

/// Drawn at random by each start of a process: a node that starts again is another node, so nothing that was
/// meant for the old one can reach the new one. The operating system's names do not serve: containers share
/// process ids and MAC addresses.
struct node_id {
  std::array<std::uint8_t, 16> bytes{};
  auto operator<=>(const node_id&) const = default;
};

/// A version 4 UUID from the system's random source.
node_id random_node_id();

/// As a UUID: 8-4-4-4-12 hexadecimal digits.
std::string to_string(const node_id& id);

/// The first 64 bits: distinct for distinct nodes but for a chance of 2^-64 a pair.
std::uint64_t short_hash(const node_id& id) noexcept;

/// Protocols that this build speaks. A change of messages raises the maximum; the minimum follows one release
/// later, so that a cluster can be upgraded node by node.
inline constexpr std::uint16_t protocol_min = 1;
inline constexpr std::uint16_t protocol_max = 1;

/// What a node says of itself when it greets, and what others repeat of it. Does not change while it lives.
struct node_description {
  node_id id;
  std::uint16_t protocol_min = cluster::protocol_min;
  std::uint16_t protocol_max = cluster::protocol_max;
  std::uint64_t model_hash = 0;  ///< of the model file and what else decides the tokens; 0: not known (yet)
  std::uint32_t capacity = 0;    ///< sequences that it runs or lets wait; 0: takes requests, computes none
  std::string model;             ///< name of the model
  std::string build;             ///< version and commit
  std::string address;           ///< host:port where other nodes reach it

  bool operator==(const node_description&) const = default;
};

enum class refusal : std::uint8_t { none, itself, protocol, model, malformed };

std::string_view to_string(refusal reason) noexcept;

/// Whether nodes may work together; the reason where they may not.
refusal check_hello(const node_description& ours, const node_description& theirs) noexcept;

/// A sentence for the other side's log.
std::string explain(refusal reason, const node_description& ours, const node_description& theirs);

/// The newest protocol that both speak, which `check_hello` has seen to exist.
std::uint16_t common_protocol(const node_description& ours, const node_description& theirs) noexcept;

/// Of two links between the same nodes, dialled by both at once, both keep the one that the lower id dialled.
/// Whether a link that `dialler` opened to `other` wins over the opposite one.
inline bool link_wins(const node_id& dialler, const node_id& other) noexcept {
  return dialler < other;
}

}  // namespace bitnet::actors::cluster
