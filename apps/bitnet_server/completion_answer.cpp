#include "apps/bitnet_server/completion_answer.hpp"

#include "apps/bitnet_server/api_answers.hpp"
#include "engine/chat_template.hpp"
#include "engine/grammar/json_schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <random>
#include <utility>
#include <variant>

namespace bitnet::apps {

namespace openai = http::openai;

namespace {

std::uint64_t random_seed() {
  thread_local std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

/// The first choice uses the request's seed itself, so that n = 1 and the first of many agree.
std::uint64_t seed_of_choice(std::uint64_t seed, std::uint32_t index) {
  return seed + index * 0x9E3779B97F4A7C15ULL;
}

engine::sampling_params to_engine(const openai::sampling_options& o) {
  engine::sampling_params p;
  p.temperature = o.temperature;
  p.top_p = o.top_p;
  p.min_p = o.min_p;
  p.top_k = o.top_k;
  p.repetition_penalty = o.repetition_penalty;
  p.frequency_penalty = o.frequency_penalty;
  p.presence_penalty = o.presence_penalty;
  p.logit_bias = o.logit_bias;
  return p;
}

openai::api_error to_api_error(const engine::error& e) {
  return apps::to_api_error(actors::failure{actors::from_engine(e.code), e.message});
}

}  // namespace

completion_answer::~completion_answer() {
  if (!context_) return;
  const auto now = std::chrono::steady_clock::now();
  context_->counters.end(outcome_, now - started_);
  if (outcome_ == request_counters::outcome::succeeded) record_times(now);
}

void completion_answer::record_times(std::chrono::steady_clock::time_point now) const noexcept {
  const auto used = usage();
  auto& m = context_->metrics;
  m.e2e_request_latency.record(std::chrono::duration<double>(now - started_).count());
  if (first_token_) m.request_decode_time.record(std::chrono::duration<double>(now - *first_token_).count());
  m.request_prompt_tokens.record(static_cast<double>(used.prompt_tokens));
  m.request_generation_tokens.record(static_cast<double>(used.completion_tokens));
}

/// `count` tokens of one choice have come. Those that came together share the time since the last ones;
/// beside the first token of all, none has passed.
void completion_answer::note_tokens(completion_choice& choice, std::size_t count) noexcept {
  const auto now = std::chrono::steady_clock::now();
  const auto seconds = [](auto d) { return std::chrono::duration<double>(d).count(); };
  if (!first_token_) {
    first_token_ = now;
    context_->metrics.time_to_first_token.record(seconds(now - started_));
  }
  const auto share = choice.last_token ? seconds(now - *choice.last_token) / static_cast<double>(count) : 0.0;
  for (auto i = choice.last_token ? std::size_t{0} : std::size_t{1}; i < count; ++i)
    context_->metrics.inter_token_latency.record(share);
  choice.last_token = now;
}

/// For the log, before the end of the response.
void completion_answer::describe_exchange() {
  const auto used = usage();
  http::exchange_facts facts;
  facts.prompt_tokens = used.prompt_tokens;
  facts.completion_tokens = used.completion_tokens;
  if (first_token_)
    facts.first_token_ms = std::chrono::duration<double, std::milli>(*first_token_ - started_).count();
  writer_->describe(facts);
}

openai::api_result<void> completion_answer::prepare(std::shared_ptr<api_context> context,
                                                    const completion_call& call,
                                                    std::shared_ptr<http::response_writer> writer) {
  context_ = std::move(context);
  context_->counters.begin();
  started_ = std::chrono::steady_clock::now();
  writer_ = std::move(writer);
  kind_ = call.kind;
  client_ = call.client;
  served_ = context_->service.model();
  if (!served_) return tl::unexpected(no_model_yet());
  model_ = served_->model;
  auto made = kind_ == completion_kind::chat ? make_chat_choices(call) : make_text_choices(call);
  if (!made) return made;
  identity_.response.id =
      fmt::format("{}-{:016x}{:08x}", kind_ == completion_kind::chat ? "chatcmpl" : "cmpl", random_seed(),
                  choices_.front().request.id & 0xFFFFFFFFU);
  if (!callable_.empty())
    for (auto& choice : choices_)
      choice.call_id = fmt::format("call_{:016x}{:04x}", random_seed(), choice.index);
  identity_.response.created = std::time(nullptr);
  identity_.response.model = model_->id;
  identity_.announces_usage = parameters_.include_usage;
  return {};
}

std::optional<std::chrono::milliseconds> completion_answer::timeout() const noexcept {
  if (!(parameters_.timeout_seconds > 0)) return std::nullopt;
  return std::chrono::milliseconds(static_cast<std::int64_t>(parameters_.timeout_seconds * 1000) + 1);
}

/// Looks at the schema before a worker does: here the error can say which member is wrong.
openai::api_result<void> completion_answer::check_schema() const {
  if (parameters_.json_schema.empty()) return {};
  const auto compiled = engine::grammar::compile_json_schema(parameters_.json_schema);
  if (compiled) return {};
  return tl::unexpected(openai::bad_request(callable_.empty() ? "response_format" : "tools",
                                            openai::codes::invalid_value, compiled.error().message));
}

openai::api_result<void> completion_answer::make_text_choices(const completion_call& call) {
  auto request = call.kind == completion_kind::inference ? openai::parse_inference_request(call.body)
                                                         : openai::parse_completion_request(call.body);
  if (!request) return tl::unexpected(request.error());
  parameters_ = std::move(request->parameters);
  if (auto wrong = check_model_name(parameters_.model, *model_)) return tl::unexpected(*wrong);
  if (auto usable = check_schema(); !usable) return usable;
  seed_ = parameters_.sampling.seed.value_or(random_seed());
  std::uint32_t index = 0;
  for (const auto& prompt : request->prompts) {
    std::vector<engine::token_id> ids;
    if (const auto* text = std::get_if<std::string>(&prompt)) {
      // The prompt is the caller's own, as a whole: control tokens that it spells are meant.
      ids = model_->tokens->encode(*text, true);
      const auto bos = model_->tokens->bos();
      if (bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
    } else {
      ids = std::get<std::vector<std::uint32_t>>(prompt);
    }
    if (auto ok = add_choices(std::move(ids), index); !ok) return ok;
    index += parameters_.n;
  }
  return {};
}

openai::api_result<void> completion_answer::make_chat_choices(const completion_call& call) {
  auto request = openai::parse_chat_request(call.body);
  if (!request) return tl::unexpected(request.error());
  parameters_ = std::move(request->parameters);
  callable_ = std::move(request->callable);
  if (auto wrong = check_model_name(parameters_.model, *model_)) return tl::unexpected(*wrong);
  if (auto usable = check_schema(); !usable) return usable;
  seed_ = parameters_.sampling.seed.value_or(random_seed());
  std::vector<engine::chat_message> messages;
  for (auto& m : request->messages) messages.push_back({std::move(m.role), std::move(m.content)});
  auto prompt = engine::render_chat(model_->chat, messages, *model_->tokens);
  if (!prompt)
    return tl::unexpected(
        openai::bad_request("messages", openai::codes::invalid_value, prompt.error().message));
  return add_choices(std::move(*prompt), 0);
}

openai::api_result<void> completion_answer::add_choices(std::vector<engine::token_id> prompt,
                                                        std::uint32_t first_index) {
  const std::size_t context = model_->config().context_length;
  if (prompt.empty())
    return tl::unexpected(
        openai::bad_request("prompt", openai::codes::invalid_value, "prompt must not be empty"));
  if (prompt.size() >= context) {
    auto e =
        openai::bad_request(kind_ == completion_kind::chat ? "messages" : "prompt", "context_length_exceeded",
                            fmt::format("the prompt has {} tokens; the model's context holds {}, the answer "
                                        "included: send a shorter prompt",
                                        prompt.size(), context));
    return tl::unexpected(std::move(e));
  }
  for (std::uint32_t k = 0; k < parameters_.n; ++k) {
    completion_choice choice;
    choice.index = first_index + k;
    choice.assembler = openai::text_assembler{parameters_.stop};
    auto& r = choice.request;
    r.id = context_->next_id();
    r.prompt = prompt;
    r.max_tokens = static_cast<std::uint32_t>(
        std::min<std::size_t>(parameters_.max_tokens.value_or(~0U), context - prompt.size()));
    r.sampling = to_engine(parameters_.sampling);
    r.sampling.seed = seed_of_choice(seed_, choice.index);
    if (auto ok = engine::validate(r.sampling, model_->config()); !ok)
      return tl::unexpected(to_api_error(ok.error()));
    if (!parameters_.ignore_eos) r.stop_tokens = model_->tokens->stop_tokens();
    r.want_logprobs = parameters_.want_logprobs;
    r.top_logprobs = parameters_.top_logprobs;
    r.json_schema = parameters_.json_schema;
    r.priority = parameters_.priority;
    r.client = client_;
    choices_.push_back(std::move(choice));
  }
  return {};
}

completion_choice* completion_answer::find(engine::request_id id) noexcept {
  const auto found = std::find_if(choices_.begin(), choices_.end(),
                                  [&](const completion_choice& c) { return c.request.id == id; });
  return found == choices_.end() ? nullptr : &*found;
}

void completion_answer::write(std::string event) {
  silent_ = false;
  writer_->write(std::move(event));
}

void completion_answer::ping() {
  if (streaming_ && silent_) writer_->write(std::string{openai::stream_ping});
  silent_ = true;
}

void completion_answer::begin_stream() {
  if (!queued_) queued_ = std::chrono::steady_clock::now() - started_;
  if (!parameters_.stream || streaming_) return;
  streaming_ = true;
  writer_->begin_stream(
      200,
      {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}});
  if (kind_ == completion_kind::chat)
    for (const auto& choice : choices_) {
      write(openai::chat_role_chunk(identity_, choice.index));
      if (callable_.size() == 1)
        write(openai::chat_call_chunk(identity_, choice.index, choice.call_id, {callable_.front().name, ""}));
    }
}

openai::token_record completion_answer::describe(const engine::sampled_token& token) const {
  openai::token_record record;
  record.token = {model_->tokens->token_bytes(token.id, true), token.logprob};
  for (const auto& t : token.top) record.top.push_back({model_->tokens->token_bytes(t.id, true), t.logprob});
  return record;
}

void completion_answer::show(std::uint64_t exchange) {
  for (auto& choice : choices_) {
    auto record = std::make_shared<actors::stream_record>();
    record->request = choice.request.id;
    record->answer = identity_.response.id;
    record->kind = kind_ == completion_kind::chat ? "chat" : "completion";
    record->streamed = parameters_.stream;
    record->prompt_tokens = choice.request.prompt.size();
    record->max_tokens = choice.request.max_tokens;
    record->exchange = exchange;
    record->started = started_;
    choice.shown = actors::stream_board::add(context_->streams, std::move(record));
  }
}

bool completion_answer::take(completion_choice& choice, const std::vector<engine::sampled_token>& tokens) {
  if (!tokens.empty()) note_tokens(choice, tokens.size());
  choice.shown.add_tokens(tokens.size(), std::chrono::steady_clock::now());
  for (const auto& token : tokens) {
    choice.request.emitted.push_back(token.id);
    const auto text = choice.utf8.push(model_->tokens->token_bytes(token.id));
    auto piece = parameters_.want_logprobs ? choice.assembler.push(text, describe(token))
                                           : choice.assembler.push(text);
    const bool stopped = piece.stopped;
    deliver(choice, std::move(piece));
    if (stopped) return true;
  }
  return false;
}

void completion_answer::deliver(completion_choice& choice, openai::assembled_text piece) {
  // Which of several functions is called is only sure at the end.
  if (!streaming_ || callable_.size() > 1) {
    choice.text += piece.text;
    std::move(piece.records.begin(), piece.records.end(), std::back_inserter(choice.records));
    return;
  }
  if (piece.text.empty() && piece.records.empty()) return;
  openai::choice_delta delta{choice.index, std::move(piece.text), std::nullopt};
  if (parameters_.want_logprobs) delta.logprobs = std::move(piece.records);
  if (kind_ != completion_kind::chat)
    write(openai::completion_chunk(identity_, delta));
  else if (callable_.empty())
    write(openai::chat_chunk(identity_, delta));
  else
    write(openai::chat_arguments_chunk(identity_, delta));
}

/// Makes the finished text the call that it is. What was cut off stays text, where it does not even name the
/// function.
void completion_answer::finish_call(completion_choice& choice) {
  choice.call = openai::parse_tool_call(callable_, choice.text);
  if (!streaming_ || callable_.size() == 1) return;
  if (choice.call)
    return write(openai::chat_call_chunk(identity_, choice.index, choice.call_id, *choice.call));
  openai::choice_delta delta{choice.index, choice.text, std::nullopt};
  write(openai::chat_chunk(identity_, delta));
}

void completion_answer::finish(completion_choice& choice, openai::finish_reason reason) {
  auto rest = choice.assembler.finish(choice.utf8.finish());
  if (rest.stopped) reason = openai::finish_reason::stop;
  deliver(choice, std::move(rest));
  if (!callable_.empty()) finish_call(choice);
  if (choice.call && reason == openai::finish_reason::stop) reason = openai::finish_reason::tool_calls;
  choice.finish = reason;
  context_->metrics.count_success(reason == openai::finish_reason::length ? server_metrics::finish::length
                                                                          : server_metrics::finish::stop);
  choice.shown = {};
  if (streaming_)
    write(kind_ == completion_kind::chat ? openai::chat_finish_chunk(identity_, choice.index, reason)
                                         : openai::completion_finish_chunk(identity_, choice.index, reason));
}

bool completion_answer::complete() const noexcept {
  return std::all_of(choices_.begin(), choices_.end(),
                     [](const completion_choice& c) { return c.finish.has_value(); });
}

openai::usage_counts completion_answer::usage() const {
  openai::usage_counts u;
  for (const auto& choice : choices_) {
    u.completion_tokens += choice.request.emitted.size();
    // The choices of one prompt share it.
    if (choice.index % parameters_.n == 0) {
      u.prompt_tokens += choice.request.prompt.size();
      u.cached_tokens += choice.usage.cached_tokens;
    }
  }
  return u;
}

void completion_answer::conclude() {
  outcome_ = request_counters::outcome::succeeded;
  describe_exchange();
  if (streaming_) {
    if (parameters_.include_usage)
      write(kind_ == completion_kind::chat ? openai::chat_usage_chunk(identity_, usage())
                                           : openai::completion_usage_chunk(identity_, usage()));
    write(std::string{openai::stream_end});
    writer_->end_stream();
    return;
  }
  std::vector<openai::response_choice> done;
  for (auto& c : choices_) {
    openai::response_choice r;
    r.index = c.index;
    r.text = std::move(c.text);
    r.finish = *c.finish;
    r.call = std::move(c.call);
    r.call_id = std::move(c.call_id);
    if (parameters_.want_logprobs) r.logprobs = std::move(c.records);
    done.push_back(std::move(r));
  }
  respond_json(*writer_, render(done));
}

std::string completion_answer::render(const std::vector<openai::response_choice>& done) const {
  switch (kind_) {
    case completion_kind::text:
      return openai::render_completion(identity_.response, done, usage());
    case completion_kind::chat:
      return openai::render_chat(identity_.response, done, usage());
    case completion_kind::inference:
      break;
  }
  const auto seconds = [](auto duration) { return std::chrono::duration<double>(duration).count(); };
  openai::inference_figures figures;
  figures.tokens = usage().completion_tokens;
  figures.on_gpu = context_->service.on_gpu();
  figures.seconds = seconds(std::chrono::steady_clock::now() - started_);
  figures.queue_seconds = seconds(queued_.value_or(std::chrono::steady_clock::duration::zero()));
  return openai::render_inference(done.front().text, figures);
}

void completion_answer::fail(const openai::api_error& error) {
  // Refusals (full, draining, loading) are no failures of a computation.
  const bool refusal = error.status < 500 || (error.status == 503 && !streaming_);
  outcome_ = refusal ? request_counters::outcome::client_error : request_counters::outcome::failed;
  if (streaming_) {
    write(openai::render_error_event(error));
    writer_->end_stream();
  } else {
    respond_error(*writer_, error, context_->counters.retry_after());
  }
}

}  // namespace bitnet::apps
