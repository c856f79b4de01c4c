#pragma once

#include <boost/json/object.hpp>

#include <cstddef>
#include <string>

namespace bitnet::console {

/// The line that tells how the node is.
std::string render_header(const boost::json::object& node);

/// An answer as text for people, without the header. `width`: columns of the terminal; lines are cut there,
/// 0: never. Control characters in what the server says are replaced.
std::string render_result(const boost::json::object& answer, std::size_t width);

/// "1.23 ms", "4.5 s", "3m20s", "2h05m", "4d03h".
std::string format_duration(double milliseconds);

}  // namespace bitnet::console
