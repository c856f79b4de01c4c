#pragma once

#include "http/openai/tools.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Answers of the OpenAI API as bytes. Pure functions: who calls them decides ids and times.

namespace bitnet::http::openai {

/// What all objects and chunks of one answer have in common.
struct response_identity {
  std::string id;            ///< "cmpl-..." or "chatcmpl-...", the same throughout a stream
  std::int64_t created = 0;  ///< Unix seconds, the same throughout a stream
  std::string model;
};

struct usage_counts {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::uint64_t cached_tokens = 0;  ///< of the prompt
};

enum class finish_reason : std::uint8_t { stop, length, tool_calls };

/// A token with its logarithm of probability. `bytes` need not be valid UTF-8.
struct token_probability {
  std::string bytes;
  float logprob = 0.0F;  ///< NaN and values below -9999 are shown as -9999: JSON has no infinities
};

/// One generated token where log-probabilities were asked for.
struct token_record {
  token_probability token;
  std::vector<token_probability> top;  ///< most likely first
  std::size_t text_offset = 0;         ///< of the token's first character in the completion, in characters
};

/// A finished choice.
struct response_choice {
  std::uint32_t index = 0;
  std::string text;  ///< valid UTF-8
  std::optional<std::vector<token_record>> logprobs;
  finish_reason finish = finish_reason::stop;
  std::optional<tool_call> call = {};  ///< of a chat; `text` is not shown then
  std::string call_id = {};
};

/// A piece of a choice in a stream.
struct choice_delta {
  std::uint32_t index = 0;
  std::string text;  ///< valid UTF-8
  std::optional<std::vector<token_record>> logprobs;
};

/// Answers in one piece.
std::string render_completion(const response_identity& identity, const std::vector<response_choice>& choices,
                              const usage_counts& usage);
std::string render_chat(const response_identity& identity, const std::vector<response_choice>& choices,
                        const usage_counts& usage);

/// Chunks of a stream, each a whole server-sent event ("data: {...}\n\n"). With `announces_usage`
/// (stream_options.include_usage) they carry "usage":null, because a usage chunk comes at the end.
struct stream_identity {
  response_identity response;
  bool announces_usage = false;
};

std::string completion_chunk(const stream_identity& stream, const choice_delta& delta);
std::string completion_finish_chunk(const stream_identity& stream, std::uint32_t index, finish_reason finish);
std::string completion_usage_chunk(const stream_identity& stream, const usage_counts& usage);

/// The first chunk of a choice: it names the role.
std::string chat_role_chunk(const stream_identity& stream, std::uint32_t index);
std::string chat_chunk(const stream_identity& stream, const choice_delta& delta);
/// The first chunk of a tool call names the function; others only add to its arguments.
std::string chat_call_chunk(const stream_identity& stream, std::uint32_t index, std::string_view call_id,
                            const tool_call& call);
std::string chat_arguments_chunk(const stream_identity& stream, const choice_delta& delta);
std::string chat_finish_chunk(const stream_identity& stream, std::uint32_t index, finish_reason finish);
std::string chat_usage_chunk(const stream_identity& stream, const usage_counts& usage);

/// The end of every stream that did not fail.
inline constexpr std::string_view stream_end = "data: [DONE]\n\n";
/// A comment, which clients skip: keeps connections through proxies open during a long prefill.
inline constexpr std::string_view stream_ping = ": ping\n\n";

/// What BitNet.rs tells about an inference.
struct inference_figures {
  std::uint64_t tokens = 0;
  double seconds = 0;        ///< from the request to the end
  double queue_seconds = 0;  ///< of those, before a worker took it
  bool on_gpu = false;
};

/// POST /v1/inference.
std::string render_inference(std::string_view text, const inference_figures& figures);

struct model_entry {
  std::string id;
  std::int64_t created = 0;  ///< Unix seconds
  std::string owned_by;
  std::uint32_t context_length = 0;  ///< shown as max_model_len, as other servers do
};

/// GET /v1/models and GET /v1/models/{id}.
std::string render_model_list(const std::vector<model_entry>& models);
std::string render_model(const model_entry& model);

/// DELETE /v1/models/{id}: {"id","object":"model","deleted":true}
std::string render_model_deleted(std::string_view id);

/// POST /v1/models/load that takes longer than the client waits:
/// {"object":"model.load","status":"loading","path"}
std::string render_model_loading(std::string_view path);

/// POST /tokenize: {"tokens":[...],"count":n}
std::string render_tokens(const std::vector<std::uint32_t>& tokens);
/// POST /detokenize: {"content":"..."}; invalid bytes become U+FFFD.
std::string render_detokenized(std::string_view bytes);

}  // namespace bitnet::http::openai
