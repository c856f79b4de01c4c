#pragma once

#include "engine/generation.hpp"
#include "tests/support/random_model.hpp"

#include <boost/test/unit_test.hpp>

#include <map>
#include <memory>
#include <vector>

namespace bitnet::tests {

/// Everything a request got until its end.
struct outcome {
  std::vector<engine::sampled_token> tokens;
  engine::finish_reason finish = engine::finish_reason::none;
  engine::generation_usage usage;
  std::optional<engine::error> failure;

  std::vector<engine::token_id> ids() const {
    std::vector<engine::token_id> out;
    for (const auto& token : tokens) out.push_back(token.id);
    return out;
  }
};

using outcomes = std::map<engine::request_id, outcome>;

inline void collect(outcomes& into, std::vector<engine::generation_event> events) {
  for (auto& event : events) {
    auto& o = into[event.id];
    BOOST_TEST((o.finish == engine::finish_reason::none),
               "request " << event.id << " got an event after its last");
    std::move(event.tokens.begin(), event.tokens.end(), std::back_inserter(o.tokens));
    o.finish = event.finish;
    o.usage = event.usage;
    o.failure = std::move(event.failure);
  }
}

inline outcomes run_until_idle(engine::generation_loop& loop, std::size_t most_steps = 100'000) {
  outcomes all;
  while (!loop.idle()) {
    BOOST_REQUIRE(most_steps-- > 0);
    collect(all, loop.step());
  }
  return all;
}

inline std::shared_ptr<const engine::model> shared_random_model() {
  static const std::shared_ptr<const engine::model> model = random_model(small_config());
  return model;
}

inline std::unique_ptr<engine::generation_loop> make_loop(
    engine::generation_options options = {},
    std::shared_ptr<const engine::model> model = shared_random_model()) {
  // One thread unless a test is about threads: teams are slow on machines that have other work.
  if (options.threads == 0) options.threads = 1;
  auto loop = engine::generation_loop::create(std::move(model), options);
  BOOST_REQUIRE_MESSAGE(loop.has_value(), (loop ? "" : loop.error().message));
  return std::move(*loop);
}

/// A prompt of `length` tokens that begins like every other one with the same `seed`.
inline std::vector<engine::token_id> prompt_of(std::size_t length, std::uint32_t seed = 1) {
  std::vector<engine::token_id> tokens(length);
  std::uint32_t x = seed * 2654435761U + 1;
  for (auto& token : tokens) {
    x = x * 1664525U + 1013904223U;
    token = (x >> 8U) % small_config().vocabulary_size;
  }
  return tokens;
}

inline engine::generation_request request_of(engine::request_id id, std::size_t prompt_length,
                                             std::uint32_t max_tokens, float temperature = 0.0F) {
  engine::generation_request request;
  request.id = id;
  request.prompt = prompt_of(prompt_length, static_cast<std::uint32_t>(id));
  request.max_tokens = max_tokens;
  request.sampling.temperature = temperature;
  request.sampling.seed = id * 1000;
  return request;
}

}  // namespace bitnet::tests
