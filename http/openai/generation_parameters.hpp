#pragma once

#include "http/openai/object_reader.hpp"
#include "http/openai/request.hpp"

namespace bitnet::http::openai {

/// Reads the members that completions and chat completions share (not log-probabilities and token limits,
/// whose forms differ) and refuses those of them that we do not support.
void read_generation_parameters(object_reader& reader, const request_limits& limits,
                                generation_parameters& out);

/// Reads the sampling parameters alone; absent ones keep their value.
void read_sampling(object_reader& reader, const request_limits& limits, sampling_options& out);

/// Most alternatives that a request may ask for at each token.
inline constexpr std::int64_t max_top_logprobs = 20;

/// Token limits above this are the same as no limit: no context is that long.
inline constexpr std::int64_t max_token_limit = 1 << 30;

inline constexpr std::int64_t max_timeout_seconds = 86'400;

}  // namespace bitnet::http::openai
