#include "engine/chat_template.hpp"

#include <fmt/core.h>

#include <array>
#include <optional>

namespace bitnet::engine {

namespace {

enum class chat_role : std::uint8_t { system, user, assistant };

std::optional<chat_role> parse_role(std::string_view name) {
  if (name == "system" || name == "developer") return chat_role::system;
  if (name == "user") return chat_role::user;
  if (name == "assistant") return chat_role::assistant;
  return std::nullopt;
}

std::string_view name_of(chat_role role) {
  switch (role) {
    case chat_role::system:
      return "system";
    case chat_role::user:
      return "user";
    case chat_role::assistant:
      return "assistant";
  }
  return "";
}

std::string_view capitalised_name_of(chat_role role) {
  switch (role) {
    case chat_role::system:
      return "System";
    case chat_role::user:
      return "User";
    case chat_role::assistant:
      return "Assistant";
  }
  return "";
}

/// What Jinja's trim filter takes away, as far as ASCII goes.
std::string_view trimmed(std::string_view text) {
  constexpr std::string_view space = " \t\n\v\f\r";
  const std::size_t begin = text.find_first_not_of(space);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(space) - begin + 1);
}

/// Collects the prompt. Text between two control tokens is encoded in one piece, because that is how the
/// models saw it: "User: hello" is not the tokens of "User: " and of "hello".
class prompt_builder {
 public:
  explicit prompt_builder(const tokenizer& tokens) : tokens_(tokens) {
    if (const auto bos = tokens.bos()) ids_.push_back(*bos);
  }

  prompt_builder& text(std::string_view text) {
    pending_ += text;
    return *this;
  }

  prompt_builder& control(token_id id) {
    flush();
    ids_.push_back(id);
    return *this;
  }

  std::vector<token_id> finish() {
    flush();
    return std::move(ids_);
  }

 private:
  void flush() {
    const std::vector<token_id> encoded = tokens_.encode(pending_, false);
    ids_.insert(ids_.end(), encoded.begin(), encoded.end());
    pending_.clear();
  }

  const tokenizer& tokens_;
  std::vector<token_id> ids_;
  std::string pending_;
};

struct turn {
  chat_role role;
  std::string_view content;
};

std::string_view spelling_of(chat_format format) {
  switch (format) {
    case chat_format::bitnet:
      return "bitnet";
    case chat_format::llama3:
      return "llama3";
    case chat_format::falcon3:
      return "falcon3";
    case chat_format::chatml:
      return "chatml";
  }
  return "";
}

result<token_id> required(chat_format format, std::string_view spelling, const tokenizer& tokens) {
  if (const auto id = tokens.find_special(spelling)) return *id;
  return fail(error_code::unsupported_model,
              fmt::format("The chat format {} needs the control token {}, which the vocabulary lacks; use a "
                          "completion instead.",
                          spelling_of(format), spelling));
}

result<std::vector<token_id>> render_bitnet(const std::vector<turn>& turns, const tokenizer& tokens) {
  // Base models without the token were not taught turns; their EOS is the nearest there is.
  auto end = tokens.find_special("<|eot_id|>");
  if (!end) end = tokens.eos();
  prompt_builder prompt(tokens);
  for (const turn& t : turns) {
    prompt.text(capitalised_name_of(t.role)).text(": ").text(trimmed(t.content));
    if (end) {
      prompt.control(*end);
    } else {
      prompt.text("\n");
    }
  }
  return prompt.text("Assistant: ").finish();
}

result<std::vector<token_id>> render_llama3(const std::vector<turn>& turns, const tokenizer& tokens) {
  const auto start = required(chat_format::llama3, "<|start_header_id|>", tokens);
  const auto stop = required(chat_format::llama3, "<|end_header_id|>", tokens);
  const auto end = required(chat_format::llama3, "<|eot_id|>", tokens);
  for (const auto* id : {&start, &stop, &end}) {
    if (!*id) return tl::unexpected(id->error());
  }
  prompt_builder prompt(tokens);
  for (const turn& t : turns) {
    prompt.control(*start).text(name_of(t.role)).control(*stop);
    prompt.text("\n\n").text(trimmed(t.content)).control(*end);
  }
  return prompt.control(*start).text("assistant").control(*stop).text("\n\n").finish();
}

result<std::vector<token_id>> render_falcon3(const std::vector<turn>& turns, const tokenizer& tokens) {
  prompt_builder prompt(tokens);
  const auto header = [&](chat_role role) {
    const std::string spelling = fmt::format("<|{}|>", name_of(role));
    if (const auto id = tokens.find_special(spelling)) {
      prompt.control(*id);
    } else {
      prompt.text(spelling);  // some of these models write their roles as plain text
    }
    prompt.text("\n");
  };
  for (const turn& t : turns) {
    header(t.role);
    prompt.text(t.content);
    if (t.role == chat_role::assistant && tokens.eos()) prompt.control(*tokens.eos());
    prompt.text("\n");
  }
  header(chat_role::assistant);
  return prompt.finish();
}

result<std::vector<token_id>> render_chatml(const std::vector<turn>& turns, const tokenizer& tokens) {
  const auto start = required(chat_format::chatml, "<|im_start|>", tokens);
  const auto end = required(chat_format::chatml, "<|im_end|>", tokens);
  for (const auto* id : {&start, &end}) {
    if (!*id) return tl::unexpected(id->error());
  }
  prompt_builder prompt(tokens);
  for (const turn& t : turns) {
    prompt.control(*start).text(name_of(t.role)).text("\n").text(t.content).control(*end).text("\n");
  }
  return prompt.control(*start).text("assistant\n").finish();
}

}  // namespace

chat_format chat_format_of(std::string_view architecture, std::string_view pre, const tokenizer& tokens) {
  // The 2B-4T model shares Llama 3's vocabulary, headers included, but was taught another format.
  if (architecture == "bitnet-b1.58" || architecture == "bitnet-25") return chat_format::bitnet;
  if (tokens.find_special("<|start_header_id|>")) return chat_format::llama3;
  if (pre == "falcon3") return chat_format::falcon3;
  if (tokens.find_special("<|im_start|>")) return chat_format::chatml;
  return chat_format::bitnet;
}

result<std::vector<token_id>> render_chat(chat_format format, const std::vector<chat_message>& messages,
                                          const tokenizer& tokens) {
  if (messages.empty()) return fail(error_code::invalid_request, "A chat needs at least one message.");
  std::vector<turn> turns;
  turns.reserve(messages.size());
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto role = parse_role(messages[i].role);
    if (!role) {
      return fail(error_code::invalid_request,
                  fmt::format("Message {} has the role \"{}\"; use system, developer, user or assistant.", i,
                              messages[i].role));
    }
    turns.push_back({*role, messages[i].content});
  }
  switch (format) {
    case chat_format::bitnet:
      return render_bitnet(turns, tokens);
    case chat_format::llama3:
      return render_llama3(turns, tokens);
    case chat_format::falcon3:
      return render_falcon3(turns, tokens);
    case chat_format::chatml:
      return render_chatml(turns, tokens);
  }
  return fail(error_code::internal, "Unknown chat format.");
}

}  // namespace bitnet::engine
