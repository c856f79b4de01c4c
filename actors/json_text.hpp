#pragma once

#include <boost/json/string.hpp>

#include <string_view>

namespace bitnet::actors {

/// `text` as a JSON string that every parser takes: what is no UTF-8 (the name of a file may be anything)
/// becomes U+FFFD.
boost::json::string json_text(std::string_view text);

}  // namespace bitnet::actors
