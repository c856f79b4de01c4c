#include "actors/introspection/message_kind.hpp"

#include <boost/core/demangle.hpp>
#include <caf/atom.hpp>
#include <caf/type_nr.hpp>

namespace bitnet::actors {

namespace {

/// Without namespaces and CAF's "@" for its own types.
std::string short_name(std::string name) {
  if (name.starts_with('@')) name.erase(0, 1);
  const auto arguments = name.find('<');
  const auto colons = name.rfind("::", arguments);
  return colons == std::string::npos ? name : name.substr(colons + 2);
}

}  // namespace

message_kind message_kind::of(const caf::mailbox_element& element) noexcept {
  message_kind kind;
  kind.from = element.mid.is_response() ? origin::response : origin::message;
  const auto& content = element.content();
  if (content.size() == 0) return kind;
  const auto type = content.type(0);
  if (type.first == caf::type_nr<caf::atom_value>::value) {
    kind.atom = static_cast<std::uint64_t>(content.get_as<caf::atom_value>(0));
  } else {
    kind.number = type.first;
    kind.type = type.second;
  }
  return kind;
}

std::string to_string(const message_kind& kind) {
  std::string name;
  if (kind.atom != 0)
    name = caf::to_string(static_cast<caf::atom_value>(kind.atom));
  else if (kind.number != 0 && kind.number < caf::type_nrs)
    name = short_name(caf::numbered_type_names[kind.number - 1]);
  else if (kind.type != nullptr)
    name = short_name(boost::core::demangle(kind.type->name()));
  switch (kind.from) {
    case message_kind::origin::none:
      return {};
    case message_kind::origin::start:
      return "(start)";
    case message_kind::origin::response:
      return name.empty() ? "answer" : "answer " + name;
    case message_kind::origin::message:
      return name.empty() ? "(empty)" : name;
  }
  return name;
}

}  // namespace bitnet::actors
