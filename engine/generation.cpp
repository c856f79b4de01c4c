#include "engine/generation.hpp"

#include "engine/grammar/matcher.hpp"
#include "engine/scheduler.hpp"
#include "engine/system_memory.hpp"
#include "engine/transformer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <new>
#include <system_error>
#include <utility>

namespace bitnet::engine {

namespace {

/// Tokens of the probe prompt; all but the last go through one prefill pass, the last through a decode pass.
constexpr std::size_t probe_tokens = 16;

std::int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Weights that a thread reads between two barriers must outweigh them: see thread_count().
constexpr std::size_t least_bytes_per_thread = std::size_t{2} << 20U;

/// Token ids spread over the vocabulary (multiplicative hashing, Knuth, TAOCP 3, section 6.4).
std::vector<token_id> probe_prompt(const model_config& config) {
  std::vector<token_id> prompt(std::min<std::size_t>(probe_tokens, config.context_length));
  for (std::size_t i = 0; i < prompt.size(); ++i)
    prompt[i] =
        static_cast<token_id>((i + 1) * 2654435761ULL % (1ULL << 32U) * config.vocabulary_size >> 32U);
  return prompt;
}

std::uint64_t hash_bits(std::span<const float> values) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const auto value : values) {
    auto bits = std::bit_cast<std::uint32_t>(value);
    for (int byte = 0; byte < 4; ++byte, bits >>= 8U) hash = (hash ^ (bits & 0xFFU)) * 0x100000001b3ULL;
  }
  return hash;
}

error not_a_number() {
  return {
      error_code::internal,
      "The forward pass computed values that are not numbers; check the model file, or reload the model."};
}

result<void> check_options(const generation_options& options) {
  if (options.max_sequences == 0)
    return fail(error_code::invalid_request, "'max_sequences' is 0 but must be at least 1.");
  if (options.prefill_chunk == 0)
    return fail(error_code::invalid_request, "'prefill_chunk' is 0 but must be at least 1.");
  if (!kernels::is_supported(options.isa)) {
    return fail(error_code::invalid_request,
                fmt::format("This machine cannot run the '{}' kernels; choose another instruction set.",
                            kernels::to_string(options.isa)));
  }
  return {};
}

pass_limits limits_of_pass(const generation_options& options) {
  return {.rows = std::max(options.max_sequences + options.prefill_chunk, probe_tokens),
          .logits_rows = options.max_sequences,
          .chunks = options.max_sequences};
}

scheduler::limits scheduling_limits(const generation_options& options) {
  return {
      .sequences = options.max_sequences, .queued = options.max_queued, .prefix_cache = options.prefix_cache};
}

/// How many of the best logits will do for the sequence's next token; 0: all are wanted.
std::size_t candidates_wanted(const sequence& s) noexcept {
  if (s.request.want_logprobs || s.request.top_logprobs != 0 || s.constraint) return 0;
  return candidates_needed(s.request.sampling);
}

struct loop_memory {
  kv_cache cache;
  std::unique_ptr<device_pass> pass;  ///< null: passes run on this CPU
};

/// The KV cache, and on a device all that a pass needs there.
result<loop_memory> take_memory(const model& model, const generation_options& options) {
  const auto& config = model.config();
  std::unique_ptr<device_pass> pass;
  auto available = available_memory_bytes();
  unsigned usable_percent = 50;
  if (options.device) {
    auto created = options.device->create_pass(*model.weights, limits_of_pass(options));
    if (!created) return tl::unexpected(std::move(created.error()));
    pass = std::move(*created);
    available = pass->memory_for_kv_bytes();
    usable_percent = 90;  // nothing but keys and values is still to come
  }
  const auto blocks =
      plan_kv_blocks(config, options.max_sequences, options.kv_cache_bytes, available, 1, usable_percent);
  if (!blocks) return tl::unexpected(blocks.error());
  if (pass)
    if (auto taken = pass->take_kv_blocks(*blocks); !taken) return tl::unexpected(std::move(taken.error()));
  auto cache = kv_cache::create(config, *blocks, pass ? kv_storage::device : kv_storage::host);
  if (!cache) return tl::unexpected(std::move(cache.error()));
  return loop_memory{std::move(*cache), std::move(pass)};
}

}  // namespace

std::size_t thread_count(const model_weights& weights, std::size_t requested) {
  if (requested != 0) return requested;
  const auto useful = std::max<std::size_t>(weights.bytes_read_per_step() / least_bytes_per_thread, 1);
  return std::min(useful, kernels::usable_cpu_count());
}

struct generation_loop::state {
  /// `pass` null: on this CPU.
  state(std::shared_ptr<const model> m, const generation_options& options, kv_cache kv,
        std::unique_ptr<forward_pass> pass)
      : loaded(std::move(m)),
        team(thread_count(*loaded->weights, options.threads)),
        cache(std::move(kv)),
        forward(pass ? std::move(pass)
                     : std::make_unique<transformer>(*loaded->weights, team, options.isa,
                                                     limits_of_pass(options), options.profile)),
        probe_block(*cache.allocate()),
        schedule(cache, scheduling_limits(options)),
        schemas(loaded->tokens.get()),
        samplers(team.size(), sampler(loaded->config().vocabulary_size)),
        progress(options.progress != nullptr ? *options.progress : own_progress),
        prefill_chunk(options.prefill_chunk),
        decode_wait_seconds(options.decode_wait_seconds) {
    chosen.reserve(options.max_sequences);
  }

  result<void> check(const generation_request& request) const;
  result<void> constrain(sequence& s);
  void find_allowed(std::span<const planned_chunk> planned);
  void fill_batch(std::span<const planned_chunk> planned);
  forward_status run_pass(std::span<const batch_chunk> batch, phase what);
  void learn_pace(phase what, double step_seconds) noexcept;
  double acceptable_wait() const noexcept;
  void sample(std::span<const planned_chunk> planned);
  void conclude(const planned_chunk& chunk, std::size_t index);
  void deliver(const planned_chunk& chunk, result<sampled_token> token);
  void emit(const sequence& s, generation_event event);
  void finish(request_id id, finish_reason reason, std::optional<error> failure = {});

  std::shared_ptr<const model> loaded;
  kernels::team team;
  kv_cache cache;
  std::unique_ptr<forward_pass> forward;
  const kv_block_id probe_block;
  scheduler schedule;
  grammar::schema_cache schemas;
  std::vector<sampler> samplers;  ///< one a member of the team
  struct progress own_progress;
  struct progress& progress;
  const std::size_t prefill_chunk;
  const double decode_wait_seconds;
  double seconds_per_token = 0;        ///< of the steps with prompt tokens, lately
  double seconds_per_decode_step = 0;  ///< of the steps without, lately
  generation_stats stats;
  std::vector<batch_chunk> batch;
  std::vector<std::optional<result<sampled_token>>> chosen;  ///< one a planned chunk
  /// What schemas allow; one a planned chunk, null without a schema.
  std::vector<std::shared_ptr<const grammar::token_mask>> allowed;
  std::vector<generation_event> events;  ///< to be returned by the next step
};

result<std::unique_ptr<generation_loop>> generation_loop::create(std::shared_ptr<const model> model,
                                                                 const generation_options& options) {
  if (auto checked = check_options(options); !checked) return tl::unexpected(checked.error());
  try {
    auto memory = take_memory(*model, options);
    if (!memory) return tl::unexpected(std::move(memory.error()));
    auto s =
        std::make_unique<state>(std::move(model), options, std::move(memory->cache), std::move(memory->pass));
    return std::unique_ptr<generation_loop>(new generation_loop(std::move(s)));
  } catch (const std::system_error& problem) {
    return fail(error_code::out_of_memory,
                fmt::format("The system gives no more threads ({}); raise its limit.", problem.what()));
  } catch (const std::bad_alloc&) {
    return fail(error_code::out_of_memory,
                "No memory for the buffers of a forward pass; configure a smaller prefill chunk or batch.");
  }
}

generation_loop::generation_loop(std::unique_ptr<state> s) : state_(std::move(s)) {}
generation_loop::~generation_loop() = default;

result<void> generation_loop::submit(generation_request request) {
  auto& s = *state_;
  if (auto checked = s.check(request); !checked) return checked;
  auto entry = std::make_unique<sequence>();
  entry->tokens = request.prompt;
  entry->tokens.insert(entry->tokens.end(), request.emitted.begin(), request.emitted.end());
  entry->initial_length = entry->tokens.size();
  entry->max_completion =
      std::min<std::size_t>(request.max_tokens, s.loaded->config().context_length - request.prompt.size());
  entry->request = std::move(request);
  if (auto constrained = s.constrain(*entry); !constrained) return constrained;
  const auto id = entry->request.id;
  const bool ended = entry->constraint && entry->constraint->must_end();
  const bool complete = entry->completion_length() >= entry->max_completion;
  s.schedule.enqueue(std::move(entry));
  if (ended || complete) s.finish(id, ended ? finish_reason::stop : finish_reason::length);
  return {};
}

/// Gives a sequence with a schema its matcher, which goes through the tokens that are there already.
result<void> generation_loop::state::constrain(sequence& s) {
  if (s.request.json_schema.empty()) return {};
  auto made = schemas.match(s.request.json_schema);
  if (!made) return tl::unexpected(made.error());
  for (const auto token : s.request.emitted) {
    if (made->advance(loaded->tokens->token_bytes(token))) continue;
    return fail(error_code::invalid_request,
                "The tokens emitted already are not the beginning of what the JSON schema allows.");
  }
  s.constraint = std::move(*made);
  return {};
}

result<void> check_request(const generation_request& request, const model_config& config) {
  if (request.prompt.empty())
    return fail(error_code::invalid_request, "The prompt is empty; send at least one token.");
  for (const auto* ids : {&request.prompt, &request.emitted, &request.stop_tokens}) {
    for (const auto id : *ids) {
      if (id < config.vocabulary_size) continue;
      return fail(
          error_code::invalid_request,
          fmt::format("Token {} is unknown; the vocabulary has {} tokens.", id, config.vocabulary_size));
    }
  }
  if (request.top_logprobs > 20) {
    return fail(error_code::invalid_request,
                fmt::format("'top_logprobs' is {} but must be at most 20.", request.top_logprobs));
  }
  if (auto checked = validate(request.sampling, config); !checked) return checked;
  if (request.prompt.size() >= config.context_length) {
    return fail(
        error_code::prompt_too_long,
        fmt::format("The prompt has {} tokens, which leaves no room for an answer in the context of {}; "
                    "shorten it.",
                    request.prompt.size(), config.context_length));
  }
  if (request.prompt.size() + request.emitted.size() > config.context_length) {
    return fail(error_code::prompt_too_long,
                fmt::format("The prompt and the {} tokens emitted already exceed the context of {} tokens.",
                            request.emitted.size(), config.context_length));
  }
  return {};
}

result<void> generation_loop::state::check(const generation_request& request) const {
  if (auto checked = check_request(request, loaded->config()); !checked) return checked;
  if (schedule.contains(request.id))
    return fail(error_code::invalid_request, fmt::format("Request {} is under way already.", request.id));
  if (schedule.queue_is_full()) {
    return fail(error_code::queue_full,
                fmt::format("{} requests wait already; try again later.", schedule.queued()));
  }
  return {};
}

void generation_loop::cancel(request_id id) {
  state_->finish(id, finish_reason::cancelled);
}

std::vector<generation_event> generation_loop::step() {
  auto& s = *state_;
  const auto planned = s.schedule.plan(
      prefill_budget(s.prefill_chunk, s.schedule.decodes(), s.seconds_per_token, s.acceptable_wait()));
  if (planned.empty()) return std::exchange(s.events, {});

  const auto what = std::all_of(planned.begin(), planned.end(), [](const auto& c) { return c.decodes(); })
                        ? phase::decode
                        : phase::prefill;
  const auto start = now_ns();
  s.fill_batch(planned);
  const auto status = s.run_pass(s.batch, what);
  if (status == forward_status::complete) {
    s.sample(planned);
    for (std::size_t i = 0; i < planned.size(); ++i) s.conclude(planned[i], i);
  }
  s.progress.current.store(phase::idle, std::memory_order_relaxed);
  const auto seconds = 1e-9 * static_cast<double>(now_ns() - start);
  s.stats.last_step_seconds = seconds;
  if (status == forward_status::complete) s.learn_pace(what, seconds);
  return std::exchange(s.events, {});
}

void generation_loop::state::fill_batch(std::span<const planned_chunk> planned) {
  batch.clear();
  for (const auto& chunk : planned) {
    const auto& target = *chunk.target;
    batch.push_back({.tokens = std::span(target.tokens).subspan(target.computed, chunk.count),
                     .position = target.computed,
                     .blocks = target.blocks,
                     .logits = chunk.completes() ? std::size_t{1} : std::size_t{0},
                     .candidates = candidates_wanted(target)});
  }
}

/// Books what the pass did for the index-th chunk.
void generation_loop::state::conclude(const planned_chunk& chunk, std::size_t index) {
  const auto& target = *chunk.target;
  if (forward->failed(index)) return finish(target.request.id, finish_reason::failed, not_a_number());
  if (!chunk.decodes()) {
    const auto last = std::min(target.computed + chunk.count, target.initial_length);
    stats.prompt_tokens += last - target.computed;
  }
  const bool completes = chunk.completes();
  schedule.mark_computed(chunk);
  if (completes) deliver(chunk, std::move(*chosen[index]));
}

forward_status generation_loop::state::run_pass(std::span<const batch_chunk> chunks, phase what) {
  const auto start = now_ns();
  ++stats.steps;
  progress.step_started_ns.store(start, std::memory_order_relaxed);
  progress.last_progress_ns.store(start, std::memory_order_relaxed);
  progress.step.fetch_add(1, std::memory_order_relaxed);
  progress.current.store(what, std::memory_order_relaxed);
  const auto status = forward->forward(chunks, cache, progress);
  if (status == forward_status::cancelled) progress.cancel.store(false, std::memory_order_relaxed);
  return status;
}

/// Moving averages over the last few steps with and without prompt tokens.
void generation_loop::state::learn_pace(phase what, double step_seconds) noexcept {
  constexpr double weight = 0.3;
  const auto follow = [](double& average, double value) {
    average += (average == 0 ? 1 : weight) * (value - average);
  };
  if (what == phase::decode) return follow(seconds_per_decode_step, step_seconds);
  std::size_t tokens = 0;
  for (const auto& chunk : batch) tokens += chunk.tokens.size();
  follow(seconds_per_token, step_seconds / static_cast<double>(tokens));
}

/// How much longer a step may take because of prompts, so that the time between two tokens of a stream stays
/// below three times what it is without.
double generation_loop::state::acceptable_wait() const noexcept {
  constexpr double decode_steps = 1.5;
  if (decode_wait_seconds <= 0 || seconds_per_decode_step == 0) return decode_wait_seconds;
  return std::min(decode_wait_seconds, decode_steps * seconds_per_decode_step);
}

/// Asks the schemas of the sequences that get a token now; here, because matchers share what they know.
void generation_loop::state::find_allowed(std::span<const planned_chunk> planned) {
  allowed.assign(planned.size(), nullptr);
  for (std::size_t i = 0; i < planned.size(); ++i) {
    auto& target = *planned[i].target;
    if (!target.constraint || !planned[i].completes()) continue;
    auto mask = target.constraint->allowed_tokens();
    target.may_end = target.constraint->may_end();
    if (mask)
      allowed[i] = std::move(*mask);
    else
      chosen[i] = tl::unexpected(mask.error());
  }
}

/// Chooses the next token of every sequence whose logits are there, each on a member of the team.
void generation_loop::state::sample(std::span<const planned_chunk> planned) {
  chosen.assign(planned.size(), std::nullopt);
  find_allowed(planned);
  const auto sample_one = [&](std::size_t i, std::size_t logits_row, sampler& with) {
    if (chosen[i]) return;  // it has failed
    auto& target = *planned[i].target;
    if (const auto best = forward->candidates(logits_row); !best.empty()) {
      sampled_token token;
      token.id = with.sample(best, target.request.sampling, target.tokens.size());
      chosen[i] = std::move(token);
      return;
    }
    token_filter filter;
    if (allowed[i]) {
      filter.allowed = *allowed[i];
      if (target.may_end) filter.also = target.request.stop_tokens;
    }
    chosen[i] = with.sample(forward->logits(logits_row), target.request.sampling, target.tokens,
                            target.completion_length(), target.tokens.size(), target.request.top_logprobs,
                            target.request.want_logprobs, filter);
  };
  const auto sample_share = [&](std::size_t member, std::size_t members) {
    std::size_t logits_row = 0;
    for (std::size_t i = 0; i < planned.size(); ++i) {
      if (!planned[i].completes()) continue;
      if (!forward->failed(i) && logits_row % members == member) sample_one(i, logits_row, samplers[member]);
      ++logits_row;
    }
  };
  const auto rows =
      std::count_if(planned.begin(), planned.end(), [](const auto& c) { return c.completes(); });
  if (rows == 0) return;
  if (rows == 1) return sample_share(0, 1);
  team.run([&](kernels::team_member& member) { sample_share(member.index(), member.size()); });
}

void generation_loop::state::deliver(const planned_chunk& chunk, result<sampled_token> token) {
  auto& s = *chunk.target;
  if (!token) return finish(s.request.id, finish_reason::failed, std::move(token.error()));
  const auto& stops = s.request.stop_tokens;
  if (std::find(stops.begin(), stops.end(), token->id) != stops.end())
    return finish(s.request.id, finish_reason::stop);
  s.tokens.push_back(token->id);
  if (s.constraint && !s.constraint->advance(loaded->tokens->token_bytes(token->id)))
    return finish(s.request.id, finish_reason::failed,
                  error{error_code::internal, "A token was chosen that the JSON schema does not allow."});
  ++stats.generated_tokens;
  progress.delivered_tokens.fetch_add(1, std::memory_order_relaxed);
  generation_event event;
  event.tokens.push_back(std::move(*token));
  const bool ended = s.constraint && s.constraint->must_end();
  if (!ended && s.completion_length() < s.max_completion) return emit(s, std::move(event));
  event.finish = ended ? finish_reason::stop : finish_reason::length;
  emit(s, std::move(event));
  schedule.remove(s.request.id);
}

/// Adds an event of `s`, with what it used so far.
void generation_loop::state::emit(const sequence& s, generation_event event) {
  event.id = s.request.id;
  event.usage.prompt_tokens = static_cast<std::uint32_t>(s.request.prompt.size());
  event.usage.completion_tokens = static_cast<std::uint32_t>(s.completion_length());
  event.usage.cached_tokens = static_cast<std::uint32_t>(s.cached_tokens);
  events.push_back(std::move(event));
}

/// Takes a sequence out of the schedule without another token; nothing happens for an unknown id.
void generation_loop::state::finish(request_id id, finish_reason reason, std::optional<error> failure) {
  const auto removed = schedule.remove(id, reason != finish_reason::failed);
  if (!removed) return;
  const bool request_is_wrong = failure && failure->code == error_code::invalid_request;
  if (reason == finish_reason::failed && !request_is_wrong) ++stats.failed_sequences;
  generation_event event;
  event.finish = reason;
  event.failure = std::move(failure);
  emit(*removed, std::move(event));
}

bool generation_loop::idle() const noexcept {
  return state_->schedule.running() == 0 && state_->schedule.queued() == 0 && state_->events.empty();
}

generation_stats generation_loop::stats() const noexcept {
  auto stats = state_->stats;
  stats.running = state_->schedule.running();
  stats.queued = state_->schedule.queued();
  stats.preemptions = state_->schedule.preemptions();
  stats.cached_tokens = state_->schedule.cached_tokens();
  stats.kv_blocks_total = state_->cache.block_count() - 1;
  stats.kv_blocks_used = state_->cache.used_blocks() - 1;
  return stats;
}

struct progress& generation_loop::progress() noexcept {
  return state_->progress;
}

std::size_t generation_loop::leak_kv_blocks(std::size_t count) {
  std::size_t leaked = 0;
  while (leaked < count && state_->cache.allocate()) ++leaked;
  return leaked;
}

result<std::uint64_t> generation_loop::probe_hash() {
  auto& s = *state_;
  const auto prompt = probe_prompt(s.loaded->config());
  const auto blocks = std::span(&s.probe_block, 1);
  const auto all = std::span<const token_id>(prompt);
  const batch_chunk start{.tokens = all.first(all.size() - 1), .position = 0, .blocks = blocks, .logits = 0};
  const batch_chunk end{.tokens = all.last(1), .position = all.size() - 1, .blocks = blocks, .logits = 1};
  for (const auto& chunk : {start, end}) {
    if (chunk.tokens.empty()) continue;
    const auto what = chunk.logits == 0 ? phase::prefill : phase::decode;
    const auto status = s.run_pass(std::span(&chunk, 1), what);
    s.progress.current.store(phase::idle, std::memory_order_relaxed);
    if (status == forward_status::cancelled)
      return fail(error_code::internal, "The probe was cancelled; ask again.");
    if (s.forward->failed(0)) return tl::unexpected(not_a_number());
  }
  const auto logits = s.forward->logits(0);
  const bool sound = std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
  if (!sound) return tl::unexpected(not_a_number());
  return hash_bits(logits);
}

}  // namespace bitnet::engine
