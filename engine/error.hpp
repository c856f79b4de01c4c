#pragma once

#include <tl/expected.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace bitnet::engine {

/// Why the engine refuses. Stable: actors and HTTP map each code to a status of theirs.
enum class error_code : std::uint8_t {
  file_not_found = 1,  ///< no such file, or not readable
  file_malformed,      ///< not GGUF, truncated, or an offset or count points outside
  unsupported_model,   ///< a valid file of an architecture, tensor type or tokenizer that we do not run
  invalid_request,     ///< parameters out of range, unknown token ids, empty prompt
  prompt_too_long,     ///< prompt and completion exceed the context length
  out_of_kv_cache,     ///< no free KV blocks now; may work later
  queue_full,          ///< too many sequences wait; may work later
  out_of_memory,       ///< the machine has not enough memory for this model
  internal,            ///< a bug or a failed computation (NaN logits)
};

std::string_view to_string(error_code code) noexcept;

/// An error as a value: `message` is one sentence that names the thing and says what to do.
struct error {
  error_code code;
  std::string message;
};

template <class T>
using result = tl::expected<T, error>;

inline tl::unexpected<error> fail(error_code code, std::string message) {
  return tl::unexpected<error>(error{code, std::move(message)});
}

}  // namespace bitnet::engine
