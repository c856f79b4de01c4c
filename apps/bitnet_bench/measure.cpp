#include "apps/bitnet_bench/measure.hpp"

#ifdef BITNET_HAVE_CUDA
#include "engine/cuda/cuda_device.hpp"
#endif

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>

namespace bitnet::apps::bench {

namespace {

using engine::error_code;
using engine::finish_reason;

using steady = std::chrono::steady_clock;

double seconds_since(steady::time_point start) {
  return std::chrono::duration<double>(steady::now() - start).count();
}

engine::forward_profile difference(const engine::forward_profile& after,
                                   const engine::forward_profile& before) {
  auto result = after;
  result.passes -= before.passes;
  for (std::size_t i = 0; i < result.seconds.size(); ++i) result.seconds[i] -= before.seconds[i];
  return result;
}

void add(engine::forward_profile& to, const engine::forward_profile& more) {
  to.passes += more.passes;
  for (std::size_t i = 0; i < to.seconds.size(); ++i) to.seconds[i] += more.seconds[i];
}

/// The loop of a measurement, and what it was asked so far.
class session {
 public:
  session(const engine::model& model, std::unique_ptr<engine::generation_loop> loop)
      : model_(model), loop_(std::move(loop)) {}

  engine::result<void> submit(std::size_t sequences, std::size_t prompt_tokens, std::size_t max_tokens) {
    for (std::size_t i = 0; i < sequences; ++i) {
      engine::generation_request request;
      request.id = ++last_id_;
      request.prompt.resize(prompt_tokens);
      for (auto& token : request.prompt)
        token = static_cast<engine::token_id>(random_() % model_.config().vocabulary_size);
      request.max_tokens = static_cast<std::uint32_t>(max_tokens);
      request.sampling.temperature = 0;
      if (auto submitted = loop_->submit(std::move(request)); !submitted) return submitted;
    }
    return {};
  }

  /// One step; the number of tokens it gave.
  engine::result<std::size_t> step() {
    std::size_t tokens = 0;
    for (auto& event : loop_->step()) {
      if (event.failure) return tl::unexpected(std::move(*event.failure));
      tokens += event.tokens.size();
    }
    return tokens;
  }

  engine::result<std::size_t> run_until_idle() {
    std::size_t tokens = 0;
    while (!loop_->idle()) {
      const auto stepped = step();
      if (!stepped) return stepped;
      tokens += *stepped;
    }
    return tokens;
  }

  void cancel_all() {
    for (engine::request_id id = 1; id <= last_id_; ++id) loop_->cancel(id);
  }

 private:
  const engine::model& model_;
  std::unique_ptr<engine::generation_loop> loop_;
  engine::request_id last_id_ = 0;
  std::mt19937 random_{1};
};

/// Seconds for the prompts of a whole batch.
engine::result<double> time_prompts(session& s, const options& chosen, std::size_t prompt_tokens) {
  if (auto submitted = s.submit(chosen.batch, prompt_tokens, 1); !submitted)
    return tl::unexpected(submitted.error());
  const auto start = steady::now();
  if (auto done = s.run_until_idle(); !done) return tl::unexpected(done.error());
  return seconds_since(start);
}

/// Brings a batch to where all sequences decode; not timed.
engine::result<void> start_generating(session& s, const options& chosen, std::size_t prompt_tokens) {
  // Sequences that are through with their prompt decode while others are not: give them tokens for that.
  const auto prefill_steps = chosen.batch * (1 + prompt_tokens / chosen.prefill_chunk) + 1;
  const auto most = chosen.generate_tokens + prefill_steps + 1;
  if (auto submitted = s.submit(chosen.batch, prompt_tokens, most); !submitted) return submitted;
  for (std::size_t tokens = 0; tokens < chosen.batch;) {
    const auto stepped = s.step();
    if (!stepped) return tl::unexpected(stepped.error());
    tokens = *stepped;  // a step in which everybody got one
  }
  return {};
}

/// Seconds for one more token of every sequence of the batch, so many times.
engine::result<double> time_decoding(session& s, std::size_t steps) {
  const auto start = steady::now();
  for (std::size_t i = 0; i < steps; ++i) {
    if (auto stepped = s.step(); !stepped) return tl::unexpected(stepped.error());
  }
  const auto taken = seconds_since(start);
  s.cancel_all();
  if (auto done = s.run_until_idle(); !done) return tl::unexpected(done.error());
  return taken;
}

engine::result<void> check_length(const engine::model& model, const options& chosen) {
  const auto needed = chosen.prompt_tokens + chosen.generate_tokens + 2 +
                      chosen.batch * (1 + chosen.prompt_tokens / chosen.prefill_chunk);
  if (needed <= model.config().context_length) return {};
  return engine::fail(
      error_code::prompt_too_long,
      fmt::format("{} prompt tokens and {} generated ones need a context of {} tokens but the model has "
                  "{}; ask for fewer.",
                  chosen.prompt_tokens, chosen.generate_tokens, needed, model.config().context_length));
}

/// Null for the CPU.
engine::result<std::shared_ptr<engine::compute_device>> device_of(
    [[maybe_unused]] const std::string& wanted) {
#ifdef BITNET_HAVE_CUDA
  const auto choice = engine::cuda::choose_devices(
      wanted, wanted == "cpu" ? kernels::cuda::device_list{} : kernels::cuda::list_devices());
  if (choice.refused)
    return engine::fail(engine::error_code::invalid_request, "--device: " + choice.reason + ".");
  if (!choice.devices.empty()) return engine::cuda::make_cuda_device(choice.devices.front());
#else
  if (wanted.starts_with("cuda"))
    return engine::fail(engine::error_code::invalid_request, "--device: this build has no CUDA; use cpu.");
#endif
  return nullptr;
}

}  // namespace

engine::result<measurement> measure(std::shared_ptr<const engine::model> model, const options& chosen) {
  if (auto fits = check_length(*model, chosen); !fits) return tl::unexpected(fits.error());
  engine::forward_profile profile;
  engine::generation_options how;
  how.threads = chosen.threads;
  how.isa = chosen.kernels;
  how.max_sequences = chosen.batch;
  how.max_queued = chosen.batch;
  how.prefill_chunk = chosen.prefill_chunk;
  how.decode_wait_seconds = 0;  // prompts come first: start_generating counts on it
  how.prefix_cache = false;
  if (chosen.profile) how.profile = &profile;
  auto device = device_of(chosen.device);
  if (!device) return tl::unexpected(std::move(device.error()));
  how.device = std::move(*device);
  auto loop = engine::generation_loop::create(model, how);
  if (!loop) return tl::unexpected(loop.error());
  session s(*model, std::move(*loop));

  // All memory is touched once before it counts, as llama-bench does.
  if (auto done = time_prompts(s, chosen, chosen.prompt_tokens); !done) return tl::unexpected(done.error());
  measurement result;
  for (std::size_t i = 0; i < chosen.repetitions; ++i) {
    auto before = profile;
    const auto prompts = time_prompts(s, chosen, chosen.prompt_tokens);
    if (!prompts) return tl::unexpected(prompts.error());
    add(result.prompt_profile, difference(profile, before));
    if (auto started = start_generating(s, chosen, chosen.prompt_tokens); !started)
      return tl::unexpected(started.error());
    before = profile;
    const auto decoding = time_decoding(s, chosen.generate_tokens);
    if (!decoding) return tl::unexpected(decoding.error());
    add(result.generate_profile, difference(profile, before));
    result.prompt_rates.push_back(static_cast<double>(chosen.batch * chosen.prompt_tokens) / *prompts);
    result.generate_rates.push_back(static_cast<double>(chosen.batch * chosen.generate_tokens) / *decoding);
  }
  return result;
}

engine::result<std::vector<std::vector<float>>> logits_of(const engine::model& model, const options& chosen) {
  const auto& tokens = chosen.logits_of;
  const auto& config = model.config();
  if (tokens.size() > config.context_length) {
    return engine::fail(
        error_code::prompt_too_long,
        fmt::format("{} tokens exceed the model's context of {}.", tokens.size(), config.context_length));
  }
  for (const auto token : tokens) {
    if (token < config.vocabulary_size) continue;
    return engine::fail(
        error_code::invalid_request,
        fmt::format("Token {} is unknown; the vocabulary has {} tokens.", token, config.vocabulary_size));
  }
  auto cache = engine::kv_cache::create(config, tokens.size() / kernels::kv_block_tokens + 1);
  if (!cache) return tl::unexpected(cache.error());
  std::vector<engine::kv_block_id> blocks;
  while (const auto block = cache->allocate()) blocks.push_back(*block);
  kernels::team team(chosen.threads);
  engine::transformer forward(*model.weights, team, chosen.kernels,
                              {.rows = tokens.size(), .logits_rows = tokens.size(), .chunks = 1});
  engine::progress progress;
  const engine::batch_chunk chunk{.tokens = tokens, .position = 0, .blocks = blocks, .logits = tokens.size()};
  forward.forward(std::span(&chunk, 1), *cache, progress);
  std::vector<std::vector<float>> rows;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    rows.emplace_back(forward.logits(i).begin(), forward.logits(i).end());
  return rows;
}

}  // namespace bitnet::apps::bench
