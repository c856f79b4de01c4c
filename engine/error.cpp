#include "engine/error.hpp"

namespace bitnet::engine {

std::string_view to_string(error_code code) noexcept {
  switch (code) {
    case error_code::file_not_found:
      return "file_not_found";
    case error_code::file_malformed:
      return "file_malformed";
    case error_code::unsupported_model:
      return "unsupported_model";
    case error_code::invalid_request:
      return "invalid_request";
    case error_code::prompt_too_long:
      return "prompt_too_long";
    case error_code::out_of_kv_cache:
      return "out_of_kv_cache";
    case error_code::queue_full:
      return "queue_full";
    case error_code::out_of_memory:
      return "out_of_memory";
    case error_code::internal:
      return "internal";
  }
  return "unknown";
}

}  // namespace bitnet::engine
