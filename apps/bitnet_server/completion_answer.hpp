#pragma once

#include "apps/bitnet_server/api.hpp"
#include "engine/model.hpp"
#include "engine/tokenizer.hpp"
#include "http/openai/request.hpp"
#include "http/openai/response.hpp"
#include "http/openai/text_assembler.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::apps {

enum class completion_kind : std::uint8_t { text, chat };

/// One choice of an answer: a sequence that a worker generates.
struct completion_choice {
  std::uint32_t index = 0;
  engine::generation_request request;  ///< its `emitted` grows with the tokens that came
  engine::utf8_stream utf8;
  http::openai::text_assembler assembler{{}};
  std::string text;                                 ///< of a plain answer
  std::vector<http::openai::token_record> records;  ///< of a plain answer
  engine::generation_usage usage;
  std::optional<http::openai::finish_reason> finish;
};

/// The answer to one completion request as it comes into being. Lives in its actor; touched by nobody else.
class completion_answer {
 public:
  completion_answer() = default;
  ~completion_answer();
  completion_answer(const completion_answer&) = delete;
  completion_answer& operator=(const completion_answer&) = delete;

  /// Parses the body, renders the prompts and makes the choices. The error is for the client.
  http::openai::api_result<void> prepare(std::shared_ptr<api_context> context, completion_kind kind,
                                         const std::string& body,
                                         std::shared_ptr<http::response_writer> writer);

  std::vector<completion_choice>& choices() noexcept { return choices_; }
  completion_choice* find(engine::request_id id) noexcept;

  /// Begins the stream, where the client wants one and it has not begun.
  void begin_stream();

  /// Takes tokens; sends what can be sent. Returns true where a stop string ended the choice.
  bool take(completion_choice& choice, const std::vector<engine::sampled_token>& tokens);

  void finish(completion_choice& choice, http::openai::finish_reason reason);

  // (Not called begin and end: CAF would take a state with such members for a range.)
  /// All choices are finished: `conclude` sends what ends the answer.
  bool complete() const noexcept;
  void conclude();

  /// Ends the answer with an error, in the stream where one has begun.
  void fail(const http::openai::api_error& error);

 private:
  http::openai::api_result<void> make_text_choices(const std::string& body);
  http::openai::api_result<void> make_chat_choices(const std::string& body);
  http::openai::api_result<void> add_choices(std::vector<engine::token_id> prompt, std::uint32_t first_index);
  http::openai::token_record describe(const engine::sampled_token& token) const;
  void deliver(completion_choice& choice, http::openai::assembled_text piece);
  http::openai::usage_counts usage() const;

  completion_kind kind_ = completion_kind::text;
  std::shared_ptr<api_context> context_;
  std::shared_ptr<http::response_writer> writer_;
  std::shared_ptr<const engine::model> model_;
  http::openai::generation_parameters parameters_;
  http::openai::stream_identity identity_;
  std::vector<completion_choice> choices_;
  std::uint64_t seed_ = 0;
  bool streaming_ = false;
  request_counters::outcome outcome_ = request_counters::outcome::client_error;
  std::chrono::steady_clock::time_point started_{};
};

}  // namespace bitnet::apps
