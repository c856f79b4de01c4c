#pragma once

#include "http/openai/api_error.hpp"
#include "http/openai/tools.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

// Requests of the OpenAI API as plain values. Parsing checks types and ranges; what needs the model (does it
// exist, are the token ids in its vocabulary, does the prompt fit) is for others.

namespace bitnet::http::openai {

/// Bounds that the API itself does not set.
struct request_limits {
  std::size_t max_body_bytes = 4 << 20;
  std::uint32_t max_choices = 64;  ///< prompts times n
  std::size_t max_messages = 4096;
  std::size_t max_stop_bytes = 1024;  ///< of one stop string
  std::size_t max_logit_biases = 1024;
};

/// How tokens are chosen. Ranges as checked; `top_k`, `min_p`, `repetition_penalty` are extensions.
struct sampling_options {
  float temperature = 1.0F;           ///< [0, 2]
  float top_p = 1.0F;                 ///< (0, 1]; a request's 0 becomes the smallest positive number
  float min_p = 0.0F;                 ///< [0, 1]
  std::uint32_t top_k = 0;            ///< 0 means all; a request may also say -1
  float repetition_penalty = 1.0F;    ///< (0, 2]
  float frequency_penalty = 0.0F;     ///< [-2, 2]
  float presence_penalty = 0.0F;      ///< [-2, 2]
  std::optional<std::uint64_t> seed;  ///< negative seeds wrap around
  std::vector<std::pair<std::uint32_t, float>> logit_bias;  ///< token id, [-100, 100]
};

/// What completions and chat completions share.
struct generation_parameters {
  std::string model;                        ///< empty: whichever is loaded
  std::optional<std::uint32_t> max_tokens;  ///< at least 1; nothing: as many as fit
  sampling_options sampling;
  std::uint32_t n = 1;            ///< choices a prompt, at least 1
  std::vector<std::string> stop;  ///< at most 4, none empty
  bool stream = false;
  bool include_usage = false;  ///< a usage chunk at the end of the stream
  bool ignore_eos = false;     ///< extension: generate on after an end-of-sequence token
  bool want_logprobs = false;
  std::uint32_t top_logprobs = 0;  ///< alternatives a token, 0 to 20
  std::string json_schema;         ///< what the text must be valid for; empty: any text
  double timeout_seconds = 0;      ///< extension: give up after this time; 0: never
  std::int32_t priority = 0;       ///< extension, as in vLLM: smaller ones leave the queue first
};

/// Text, or token ids that are taken as they are.
using completion_prompt = std::variant<std::string, std::vector<std::uint32_t>>;

struct completion_request {
  generation_parameters parameters;        ///< max_tokens is set: 16 where the request does not say
  std::vector<completion_prompt> prompts;  ///< at least one; its choices have the indices prompt * n + 0..n-1
};

struct request_message {
  std::string role;     ///< system, developer, user or assistant; a tool's answer comes from the user
  std::string content;  ///< text parts joined by line feeds; of an assistant's tool calls: them as JSON
};

struct chat_request {
  generation_parameters parameters;
  std::vector<request_message> messages;  ///< at least one; the instructions for `callable` are among them
  std::vector<tool_definition> callable;  ///< the answer must call one of them; empty: it is text
};

struct tokenize_request {
  std::string model;
  std::string text;
  bool add_special = false;    ///< put BOS in front where the model has one
  bool parse_special = false;  ///< spellings of control tokens become those tokens
};

struct detokenize_request {
  std::string model;
  std::vector<std::uint32_t> tokens;
};

struct load_request {
  std::string path;              ///< as the client wrote it: to be looked at before anything is opened
  double timeout_seconds = 600;  ///< to wait for the model to serve, [0, 3600]
};

/// Unknown members are ignored and null means absent, as OpenAI-compatible servers do; of duplicate members
/// the last counts. Never throws.
api_result<completion_request> parse_completion_request(std::string_view body,
                                                        const request_limits& limits = {});
/// BitNet.rs's {"prompt", "max_tokens"?, "model"?, "temperature"?, "top_p"?, "top_k"?, "repetition_penalty"?,
/// "priority"?, "device_preference"?, "quantization_hint"?, "timeout_ms"?}.
api_result<completion_request> parse_inference_request(std::string_view body,
                                                       const request_limits& limits = {});
api_result<chat_request> parse_chat_request(std::string_view body, const request_limits& limits = {});

/// {"content" or "text" or "prompt", "add_special"?, "parse_special"?, "model"?}
api_result<tokenize_request> parse_tokenize_request(std::string_view body, const request_limits& limits = {});
/// {"tokens", "model"?}
api_result<detokenize_request> parse_detokenize_request(std::string_view body,
                                                        const request_limits& limits = {});
/// {"path", "timeout"?}
api_result<load_request> parse_load_request(std::string_view body, const request_limits& limits = {});

}  // namespace bitnet::http::openai
