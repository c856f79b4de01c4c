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

enum class completion_kind : std::uint8_t { text, chat, inference };

/// What a client asks for.
struct completion_call {
  completion_kind kind;
  std::string body;
  std::uint64_t client = 0;  ///< whose turn it takes: engine::generation_request::client
};

/// One choice of an answer: a sequence that a worker generates.
struct completion_choice {
  std::uint32_t index = 0;
  engine::generation_request request;  ///< its `emitted` grows with the tokens that came
  engine::utf8_stream utf8;
  http::openai::text_assembler assembler{{}};
  std::string text;                                 ///< of a plain answer
  std::vector<http::openai::token_record> records;  ///< of a plain answer
  actors::stream_board::entry shown;                ///< to the console
  engine::generation_usage usage;
  std::optional<http::openai::finish_reason> finish;
  std::string call_id;  ///< of a tool call
  std::optional<http::openai::tool_call> call;
  std::optional<std::chrono::steady_clock::time_point> last_token;
};

/// The answer to one completion request as it comes into being. Lives in its actor; touched by nobody else.
class completion_answer {
 public:
  static inline const char* name = "completion";

  completion_answer() = default;
  ~completion_answer();
  completion_answer(const completion_answer&) = delete;
  completion_answer& operator=(const completion_answer&) = delete;

  /// Parses the body, renders the prompts and makes the choices. The error is for the client.
  http::openai::api_result<void> prepare(std::shared_ptr<api_context> context, const completion_call& call,
                                         std::shared_ptr<http::response_writer> writer);

  /// How long the request may take; nothing where it does not say.
  std::optional<std::chrono::milliseconds> timeout() const noexcept;

  std::vector<completion_choice>& choices() noexcept { return choices_; }
  /// Of the model that the choices were made for. After prepare() without an error.
  std::uint64_t model_slot() const noexcept { return served_->slot; }
  completion_choice* find(engine::request_id id) noexcept;

  /// A worker has the choices: begins the stream, where the client wants one and it has not begun.
  void begin_stream();

  /// The client wants a stream.
  bool streams() const noexcept { return parameters_.stream; }
  /// Where the stream has been silent since the last call: sends a comment, which keeps it open.
  void ping();

  /// Puts the choices on the console's board, as worked on by this actor.
  void show(std::uint64_t exchange);

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
  http::openai::api_result<void> make_text_choices(const completion_call& call);
  http::openai::api_result<void> make_chat_choices(const completion_call& call);
  http::openai::api_result<void> check_schema() const;
  http::openai::api_result<void> add_choices(std::vector<engine::token_id> prompt, std::uint32_t first_index);
  http::openai::token_record describe(const engine::sampled_token& token) const;
  void deliver(completion_choice& choice, http::openai::assembled_text piece);
  void finish_call(completion_choice& choice);
  void write(std::string event);
  std::string render(const std::vector<http::openai::response_choice>& done) const;
  http::openai::usage_counts usage() const;
  void note_tokens(completion_choice& choice, std::size_t count) noexcept;
  void describe_exchange();
  void record_times(std::chrono::steady_clock::time_point now) const noexcept;

  completion_kind kind_ = completion_kind::text;
  std::shared_ptr<api_context> context_;
  std::shared_ptr<http::response_writer> writer_;
  std::shared_ptr<const actors::served_model>
      served_;  ///< keeps the model loaded until this answer has ended
  std::shared_ptr<const engine::model> model_;
  http::openai::generation_parameters parameters_;
  http::openai::stream_identity identity_;
  std::vector<completion_choice> choices_;
  std::vector<http::openai::tool_definition> callable_;
  std::uint64_t seed_ = 0;
  std::uint64_t client_ = 0;
  bool streaming_ = false;
  bool silent_ = true;  ///< nothing was written since the last ping
  std::optional<std::chrono::steady_clock::duration> queued_;
  request_counters::outcome outcome_ = request_counters::outcome::client_error;
  std::chrono::steady_clock::time_point started_{};
  std::optional<std::chrono::steady_clock::time_point> first_token_;
};

}  // namespace bitnet::apps
