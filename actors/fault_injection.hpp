#pragma once

#include <tl/expected.hpp>

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::actors {

/// A fault to cause on purpose, as it came in: {"fault": name, parameter: value, ...}.
struct fault_request {
  std::string fault;
  std::map<std::string, std::string, std::less<>> parameters;  ///< numbers as decimal text

  /// The parameter, `otherwise` where it is absent. An error (a sentence) where it is no number in [min,
  /// max].
  tl::expected<double, std::string> number(std::string_view name, double otherwise, double min,
                                           double max) const;
  /// The parameter, `otherwise` where it is absent. An error where it is none of `choices`.
  tl::expected<std::string, std::string> choice(std::string_view name, std::string otherwise,
                                                const std::vector<std::string_view>& choices) const;
};

/// What was done, or why not: one sentence.
using fault_outcome = tl::expected<std::string, std::string>;

/// Runs on a thread of its own, one fault at a time; should return within seconds (a fault that lasts goes on
/// by itself). Refuses parameters that it does not understand.
using fault_handler = std::function<fault_outcome(const fault_request&)>;

struct declared_fault {
  std::string name;  ///< "hang"
  std::string help;  ///< one line: what happens, and its parameters with ranges and defaults
  fault_handler cause;
};

/// The faults that can be caused in this process, each declared by the part that it breaks. Exists only where
/// debug.fault-injection is set (service_options::faults is null otherwise): whoever declares faults asks for
/// that first. Thread-safe.
class fault_injection {
 public:
  /// Replaces an earlier declaration of the same name.
  void declare(declared_fault fault);

  /// Looks up and runs. Blocks as long as the handler does.
  fault_outcome cause(const fault_request& request) const;

  /// Names and help, in the order of the names.
  std::vector<declared_fault> declared() const;

 private:
  mutable std::mutex mutex_;  ///< of the table
  mutable std::mutex one_at_a_time_;
  std::map<std::string, declared_fault, std::less<>> faults_;
};

}  // namespace bitnet::actors
