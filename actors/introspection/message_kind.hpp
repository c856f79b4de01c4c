#pragma once

#include <caf/mailbox_element.hpp>

#include <cstdint>
#include <string>
#include <typeinfo>

namespace bitnet::actors {

/// What a message is, in three words that can be stored without allocation: an atom, or the type of its first
/// element.
struct message_kind {
  enum class origin : std::uint16_t { none, message, response, start };

  origin from = origin::none;
  std::uint16_t number = 0;              ///< CAF's number of a built-in type; 0: another
  std::uint64_t atom = 0;                ///< caf::atom_value, where the first element is one
  const std::type_info* type = nullptr;  ///< of the first element, where it is not built in

  static message_kind of(const caf::mailbox_element& element) noexcept;
  /// The actor's own initialisation, before any message.
  static message_kind start() noexcept { return {origin::start, 0, 0, nullptr}; }
};

/// For people: "tick", "component_report", "answer submit_receipt", "(start)"; empty for none.
std::string to_string(const message_kind& kind);

}  // namespace bitnet::actors
