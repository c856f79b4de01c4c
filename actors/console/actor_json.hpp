#pragma once

#include "actors/console/commands.hpp"
#include "actors/introspection/process_table.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <tl/expected.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// How figures become JSON, and how options are read: shared by the commands.

namespace bitnet::actors {

boost::json::object to_json(const process_record& record);
boost::json::array recent_messages(const process_record& record);
/// "in step for 12.3 s, on thread 4711 (sleeping)", or that a message waits.
std::string why_suspect(const process_record& record);
/// What the kernel says of a thread of this process: "running", "sleeping", "disk sleep", ...; empty: gone.
std::string thread_state(std::int64_t thread);

double milliseconds_of(std::int64_t ns);  ///< three decimals
double tenths(double value);

command_result refuse(std::string why);

/// The option as a number in [min, max], or `otherwise` where it is absent; nothing where it is something
/// else.
std::optional<std::uint64_t> number_option(const console_request& request, std::string_view name,
                                           std::uint64_t min, std::uint64_t max, std::uint64_t otherwise);
/// A positive number of seconds; outer nothing: malformed, inner nothing: absent.
std::optional<std::optional<std::chrono::nanoseconds>> seconds_option(const console_request& request,
                                                                      std::string_view name);

}  // namespace bitnet::actors
