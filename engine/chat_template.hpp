#pragma once

#include "engine/error.hpp"
#include "engine/model_config.hpp"
#include "engine/tokenizer.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::engine {

struct chat_message {
  std::string role;  ///< system, user, assistant (or developer, treated as system)
  std::string content;
};

/// Chat prompts of the model families in docs/models.md; a family is recognised from the file's metadata.
enum class chat_format : std::uint8_t {
  bitnet,   ///< BOS, "Role: " + trimmed content + <|eot_id|> for each message, then "Assistant: "
  llama3,   ///< <|start_header_id|>role<|end_header_id|> blocks
  falcon3,  ///< <|role|> lines
  chatml,   ///< <|im_start|>role blocks
};

/// The format of a model with this general.architecture, tokenizer.ggml.pre and vocabulary.
chat_format chat_format_of(std::string_view architecture, std::string_view pre, const tokenizer& tokens);

/// chat_format_of what `file` says.
chat_format detect_chat_format(const gguf_file& file, const model_config& config, const tokenizer& tokens);

/// Token ids of the prompt up to the beginning of the assistant's next turn, BOS included where the model
/// wants one. Message contents are encoded as plain text: the spelling of a control token in them stays text.
/// Refuses unknown roles and an empty list (invalid_request), and a vocabulary without the format's control
/// tokens (unsupported_model).
result<std::vector<token_id>> render_chat(chat_format format, const std::vector<chat_message>& messages,
                                          const tokenizer& tokens);

}  // namespace bitnet::engine
