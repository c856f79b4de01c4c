#pragma once

#include "http/openai/object_reader.hpp"
#include "http/openai/request.hpp"

namespace bitnet::http::openai {

/// Reads the members that completions and chat completions share (not log-probabilities and token limits,
/// whose forms differ) and refuses those of them that we do not support.
void read_generation_parameters(object_reader& reader, const request_limits& limits,
                                generation_parameters& out);

/// Most alternatives that a request may ask for at each token.
inline constexpr std::int64_t max_top_logprobs = 20;

/// Token limits above this are the same as no limit: no context is that long.
inline constexpr std::int64_t max_token_limit = 1 << 30;

}  // namespace bitnet::http::openai
