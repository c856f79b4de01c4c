#include "actors/cluster/identity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace bitnet::actors::cluster {

node_id random_node_id() {
  std::random_device device;
  node_id id;
  for (std::size_t i = 0; i < id.bytes.size(); i += 4) {
    const std::uint32_t word = device();
    std::memcpy(&id.bytes[i], &word, 4);
  }
  id.bytes[6] = static_cast<std::uint8_t>((id.bytes[6] & 0x0FU) | 0x40U);
  id.bytes[8] = static_cast<std::uint8_t>((id.bytes[8] & 0x3FU) | 0x80U);
  return id;
}

std::string to_string(const node_id& id) {
  std::string text;
  for (std::size_t i = 0; i < id.bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", id.bytes[i]);
  }
  return text;
}

std::uint64_t short_hash(const node_id& id) noexcept {
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  std::memcpy(&a, id.bytes.data(), 8);
  std::memcpy(&b, id.bytes.data() + 8, 8);
  return a ^ (b * 0x9E3779B97F4A7C15ULL);
}

std::string_view to_string(refusal reason) noexcept {
  switch (reason) {
    case refusal::none:
      return "none";
    case refusal::itself:
      return "itself";
    case refusal::protocol:
      return "protocol";
    case refusal::model:
      return "model";
    case refusal::malformed:
      return "malformed";
  }
  return "unknown";
}

refusal check_hello(const node_description& ours, const node_description& theirs) noexcept {
  if (ours.id == theirs.id) return refusal::itself;
  if (theirs.protocol_min > theirs.protocol_max) return refusal::malformed;
  if (theirs.protocol_max < ours.protocol_min || theirs.protocol_min > ours.protocol_max)
    return refusal::protocol;
  if (ours.model_hash != 0 && theirs.model_hash != 0 && ours.model_hash != theirs.model_hash)
    return refusal::model;
  return refusal::none;
}

std::string explain(refusal reason, const node_description& ours, const node_description& theirs) {
  switch (reason) {
    case refusal::none:
      return {};
    case refusal::itself:
      return "this address is the node's own";
    case refusal::protocol:
      return fmt::format(
          "this node speaks protocols {} to {}, the other {} to {}: upgrade one release at a time",
          ours.protocol_min, ours.protocol_max, theirs.protocol_min, theirs.protocol_max);
    case refusal::model:
      return fmt::format(
          "this node serves {} ({:016x}), the other {} ({:016x}): a cluster serves one model, "
          "with the same engine.lm-head",
          ours.model, ours.model_hash, theirs.model, theirs.model_hash);
    case refusal::malformed:
      return "the greeting makes no sense";
  }
  return {};
}

std::uint16_t common_protocol(const node_description& ours, const node_description& theirs) noexcept {
  return std::min(ours.protocol_max, theirs.protocol_max);
}

}  // namespace bitnet::actors::cluster
