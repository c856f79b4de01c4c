#include "actors/fault_injection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace bitnet::actors {

tl::expected<double, std::string> fault_request::number(std::string_view name, double otherwise, double min,
                                                        double max) const {
  const auto found = parameters.find(name);
  if (found == parameters.end()) return otherwise;
  const auto& text = found->second;
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size() || !(value >= min && value <= max))
    return tl::unexpected(fmt::format("'{}' must be a number from {} to {}, not '{}'", name, min, max, text));
  return value;
}

tl::expected<std::string, std::string> fault_request::choice(
    std::string_view name, std::string otherwise, const std::vector<std::string_view>& choices) const {
  const auto found = parameters.find(name);
  if (found == parameters.end()) return otherwise;
  if (std::find(choices.begin(), choices.end(), found->second) == choices.end())
    return tl::unexpected(fmt::format("'{}' must be one of {}, not '{}'", name,
                                      fmt::join(choices.begin(), choices.end(), ", "), found->second));
  return found->second;
}

void fault_injection::declare(declared_fault fault) {
  const std::lock_guard lock(mutex_);
  auto name = fault.name;
  faults_.insert_or_assign(std::move(name), std::move(fault));
}

fault_outcome fault_injection::cause(const fault_request& request) const {
  fault_handler handler;
  {
    const std::lock_guard lock(mutex_);
    const auto found = faults_.find(request.fault);
    if (found == faults_.end()) {
      std::string known;
      for (const auto& [name, fault] : faults_) known += (known.empty() ? "" : ", ") + name;
      return tl::unexpected(fmt::format("there is no fault '{}'; known: {}", request.fault, known));
    }
    handler = found->second.cause;
  }
  const std::lock_guard lock(one_at_a_time_);
  return handler(request);
}

std::vector<declared_fault> fault_injection::declared() const {
  const std::lock_guard lock(mutex_);
  std::vector<declared_fault> all;
  for (const auto& [name, fault] : faults_) all.push_back(fault);
  return all;
}

}  // namespace bitnet::actors
