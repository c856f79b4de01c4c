#include "actors/json_text.hpp"

#include "engine/utf8.hpp"

namespace bitnet::actors {

boost::json::string json_text(std::string_view text) {
  boost::json::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const auto next = engine::next_utf8_sequence(text);
    clean += next.status == engine::utf8_status::valid ? text.substr(0, next.length) : "\xEF\xBF\xBD";
    text.remove_prefix(next.length);
  }
  return clean;
}

}  // namespace bitnet::actors
