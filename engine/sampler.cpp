#include "engine/sampler.hpp"

#include "kernels/vector.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace bitnet::engine {

namespace {

/// What a token that cannot be chosen gets instead of minus infinity, which JSON cannot say.
constexpr float least_logprob = -9999.0F;

/// Below this, temperature counts as 0: dividing by it would leave the range of floats.
constexpr float least_temperature = 1e-5F;

/// Probabilities by their leading bits, 128 buckets a power of two: positive floats order as their bits do.
constexpr unsigned bucket_shift = 16;
constexpr std::size_t bucket_of(float probability) noexcept {
  return std::bit_cast<std::uint32_t>(probability) >> bucket_shift;
}
/// Softmax may round a single probability a little above 1.
constexpr std::size_t bucket_total = bucket_of(2.0F) + 1;

const kernels::vector_kernels& vectors() noexcept {
  static const auto& chosen = kernels::vector_kernels_for(kernels::best_instruction_set());
  return chosen;
}

template <class T>
result<void> check_range(const char* name, T value, T low, T high, bool low_open) {
  const bool inside = (low_open ? value > low : value >= low) && value <= high;
  if (inside) return {};
  return fail(error_code::invalid_request,
              fmt::format("'{}' is {} but must be {} {} and at most {}.", name, value,
                          low_open ? "greater than" : "at least", low, high));
}

/// The most likely token. NaN must have been ruled out.
token_id most_likely(std::span<const float> logits) noexcept {
  return static_cast<token_id>(vectors().argmax(logits.data(), logits.size()));
}

bool adjusts_logits(const sampling_params& params) noexcept {
  return params.repetition_penalty != 1.0F || params.frequency_penalty != 0.0F ||
         params.presence_penalty != 0.0F || !params.logit_bias.empty();
}

bool is_greedy(const sampling_params& params) noexcept {
  return params.temperature < least_temperature || params.top_k == 1;
}

}  // namespace

double uniform_random(std::uint64_t seed, std::uint64_t position) noexcept {
  std::array<std::uint32_t, 4> counter{static_cast<std::uint32_t>(position),
                                       static_cast<std::uint32_t>(position >> 32), 0, 0};
  std::array<std::uint32_t, 2> key{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const auto a = std::uint64_t{0xD2511F53U} * counter[0];
    const auto b = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  const auto bits = (std::uint64_t{counter[1]} << 32 | counter[0]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

result<void> validate(const sampling_params& params, const model_config& config) {
  for (const auto& checked : {check_range("temperature", params.temperature, 0.0F, 2.0F, false),
                              check_range("top_p", params.top_p, 0.0F, 1.0F, true),
                              check_range("min_p", params.min_p, 0.0F, 1.0F, false),
                              check_range("repetition_penalty", params.repetition_penalty, 0.0F, 2.0F, true),
                              check_range("frequency_penalty", params.frequency_penalty, -2.0F, 2.0F, false),
                              check_range("presence_penalty", params.presence_penalty, -2.0F, 2.0F, false)}) {
    if (!checked) return checked;
  }
  for (const auto& [token, bias] : params.logit_bias) {
    if (token >= config.vocabulary_size) {
      return fail(error_code::invalid_request,
                  fmt::format("'logit_bias' names token {} but the vocabulary has {} tokens.", token,
                              config.vocabulary_size));
    }
    if (const auto checked = check_range("logit_bias", bias, -100.0F, 100.0F, false); !checked)
      return checked;
  }
  return {};
}

std::size_t candidates_needed(const sampling_params& params) noexcept {
  if (adjusts_logits(params)) return 0;
  if (is_greedy(params)) return 1;
  return params.top_k <= most_candidates ? params.top_k : 0;
}

sampler::sampler(std::size_t vocabulary_size) : scratch_(vocabulary_size), bucket_mass_(bucket_total) {
  ids_.reserve(vocabulary_size);
  order_.reserve(vocabulary_size);
}

result<sampled_token> sampler::sample(std::span<const float> logits, const sampling_params& params,
                                      std::span<const token_id> history, std::size_t generated,
                                      std::uint64_t position, std::uint32_t top_logprobs, bool want_logprob,
                                      const token_filter& filter) {
  const auto best = vectors().argmax(logits.data(), logits.size());
  if (best >= logits.size() || !std::isfinite(logits[best]))
    return fail(error_code::internal,
                "The model computed logits that are not numbers; its weights may be damaged.");
  const bool adjusted = adjusts_logits(params);
  const bool greedy = is_greedy(params);
  sampled_token chosen;
  const bool filtered = !filter.allowed.empty();
  if (greedy && !adjusted && !filtered) {
    chosen.id = static_cast<token_id>(best);
  } else {
    scratch_.assign(logits.begin(), logits.end());
    if (adjusted) apply_penalties(params, history, generated);
    if (filtered) {
      apply_filter(filter);
      if (!std::isfinite(scratch_[most_likely(scratch_)]))
        return fail(error_code::internal, "The model rules out every token that the JSON schema allows.");
    }
    if (greedy) {
      chosen.id = most_likely(scratch_);
    } else {
      ids_.clear();
      if (params.top_k != 0 && params.top_k < scratch_.size()) keep_greatest(params.top_k);
      chosen.id = draw(params, position);
    }
  }
  if (want_logprob || top_logprobs != 0) add_logprobs(logits, top_logprobs, chosen);
  return chosen;
}

token_id sampler::sample(std::span<const candidate> best, const sampling_params& params,
                         std::uint64_t position) {
  if (is_greedy(params)) return best.front().id;
  // In the order of ids, as keep_greatest leaves them: sums then have the same order.
  order_.resize(best.size());
  std::iota(order_.begin(), order_.end(), token_id{0});
  std::sort(order_.begin(), order_.end(), [&](token_id a, token_id b) { return best[a].id < best[b].id; });
  ids_.clear();
  scratch_.clear();
  for (const auto i : order_) {
    ids_.push_back(best[i].id);
    scratch_.push_back(best[i].logit);
  }
  return draw(params, position);
}

/// Leaves the `count` greatest logits in scratch_, and their ids in ids_. One pass, in which at most twice as
/// many are held; whenever that many are, the lesser half goes.
void sampler::keep_greatest(std::size_t count) {
  const auto better = [this](token_id a, token_id b) {
    return scratch_[a] > scratch_[b] || (scratch_[a] == scratch_[b] && a < b);
  };
  auto least = -std::numeric_limits<float>::infinity();  // `count` of those held are at least this
  const auto trim = [&] {
    const auto last = ids_.begin() + static_cast<std::ptrdiff_t>(count) - 1;
    std::nth_element(ids_.begin(), last, ids_.end(), better);
    ids_.resize(count);
    least = scratch_[ids_.back()];
  };
  ids_.clear();
  for (token_id id = 0; id < scratch_.size(); ++id) {
    if (ids_.size() >= count && !(scratch_[id] > least)) continue;  // of equals the smaller ids are there
    ids_.push_back(id);
    if (ids_.size() == 2 * count) trim();
  }
  if (ids_.size() > count) trim();
  std::sort(ids_.begin(), ids_.end());
  for (std::size_t i = 0; i < count; ++i) scratch_[i] = scratch_[ids_[i]];  // ids_[i] >= i
  scratch_.resize(count);
}

void sampler::apply_penalties(const sampling_params& params, std::span<const token_id> history,
                              std::size_t generated) {
  // Runs of equal ids in the sorted history: each token once, with its count.
  const auto for_each_run = [this](std::span<const token_id> ids, auto&& apply) {
    order_.assign(ids.begin(), ids.end());
    std::sort(order_.begin(), order_.end());
    for (auto run = order_.begin(); run != order_.end();) {
      const auto end = std::upper_bound(run, order_.end(), *run);
      apply(scratch_[*run], static_cast<float>(end - run));
      run = end;
    }
  };
  if (params.repetition_penalty != 1.0F) {
    for_each_run(history, [&](float& logit, float) {
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    });
  }
  if (params.frequency_penalty != 0.0F || params.presence_penalty != 0.0F) {
    for_each_run(history.last(std::min(generated, history.size())), [&](float& logit, float count) {
      logit -= count * params.frequency_penalty + params.presence_penalty;
    });
  }
  for (const auto& [token, bias] : params.logit_bias) scratch_[token] += bias;
  // A tiny repetition penalty may have left the range of floats.
  for (auto& logit : scratch_) logit = std::min(logit, std::numeric_limits<float>::max());
}

void sampler::apply_filter(const token_filter& filter) {
  kept_.clear();
  for (const auto id : filter.also) kept_.push_back(scratch_[id]);
  for (std::size_t word = 0; word < filter.allowed.size(); ++word) {
    const auto bits = filter.allowed[word];
    if (bits == ~std::uint64_t{0}) continue;
    const auto first = word * 64;
    const auto last = std::min(first + 64, scratch_.size());
    for (auto id = first; id < last; ++id)
      if ((bits >> (id - first) & 1U) == 0) scratch_[id] = -std::numeric_limits<float>::infinity();
  }
  for (std::size_t i = 0; i < filter.also.size(); ++i) scratch_[filter.also[i]] = kept_[i];
}

token_id sampler::draw(const sampling_params& params, std::uint64_t position) {
  vectors().softmax(scratch_.data(), scratch_.size(), params.temperature);
  cutoff last{0.0F, scratch_.size()};
  if (params.top_p < 1.0F) last = find_cutoff(static_cast<double>(params.top_p));
  if (params.min_p > 0.0F) {
    const auto least = params.min_p * *std::max_element(scratch_.begin(), scratch_.end());
    if (least > last.probability) last = {least, scratch_.size()};
  }
  // The inverse of the distribution function, in the order of ids.
  double mass = 0;
  for (std::size_t i = 0; i < scratch_.size(); ++i) {
    if (!last.keeps(scratch_[i], i)) scratch_[i] = 0;
    mass += static_cast<double>(scratch_[i]);
  }
  const auto target = uniform_random(params.seed, position) * mass;
  double sum = 0;
  std::size_t chosen = 0;
  for (std::size_t i = 0; i < scratch_.size(); ++i) {
    if (scratch_[i] == 0) continue;
    chosen = i;
    sum += static_cast<double>(scratch_[i]);
    if (sum > target) break;
  }
  return ids_.empty() ? static_cast<token_id>(chosen) : ids_[chosen];
}

/// The last of the fewest entries that hold `share` (below 1) of the mass. Finds the bucket of probabilities
/// where the limit falls, and sorts that bucket only.
sampler::cutoff sampler::find_cutoff(double share) {
  std::fill(bucket_mass_.begin(), bucket_mass_.end(), 0.0);
  for (const auto p : scratch_) {
    if (p == 0) continue;
    bucket_mass_[bucket_of(p)] += static_cast<double>(p);
  }
  double mass = 0;
  for (auto bucket = bucket_total; bucket-- > 0;) mass += bucket_mass_[bucket];
  const auto wanted = share * mass;

  double above_mass = 0;
  auto bucket = bucket_total - 1;
  while (above_mass + bucket_mass_[bucket] < wanted) {
    if (bucket == 0) return {0.0F, scratch_.size()};  // the limit is beyond all that is there
    above_mass += bucket_mass_[bucket];
    --bucket;
  }

  order_.clear();
  for (std::size_t i = 0; i < scratch_.size(); ++i)
    if (scratch_[i] != 0 && bucket_of(scratch_[i]) == bucket) order_.push_back(static_cast<token_id>(i));
  std::sort(order_.begin(), order_.end(), [this](token_id a, token_id b) {
    return scratch_[a] > scratch_[b] || (scratch_[a] == scratch_[b] && a < b);
  });
  cutoff last{0.0F, scratch_.size()};
  for (const auto i : order_) {
    last = {scratch_[i], i};
    above_mass += static_cast<double>(scratch_[i]);
    if (above_mass >= wanted) break;
  }
  return last;
}

void sampler::add_logprobs(std::span<const float> logits, std::uint32_t top_logprobs, sampled_token& out) {
  // log p(i) = logit(i) - max - log(sum of exp(logit - max)); the softmax of the largest is 1 / that sum.
  const auto top = most_likely(logits);
  scratch_.assign(logits.begin(), logits.end());
  vectors().softmax(scratch_.data(), scratch_.size(), 1.0F);
  const auto log_top = std::log(static_cast<double>(scratch_[top]));
  const auto logprob = [&](token_id id) {
    const auto value = static_cast<double>(logits[id]) - static_cast<double>(logits[top]) + log_top;
    return std::max(least_logprob, static_cast<float>(value));
  };
  out.logprob = logprob(out.id);

  // The best `top_logprobs` in one pass: a heap whose front is the worst of them.
  const auto better = [&](token_id a, token_id b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  };
  const auto wanted = std::min<std::size_t>(top_logprobs, logits.size());
  if (wanted == 0) return;
  order_.clear();
  for (token_id id = 0; id < logits.size(); ++id) {
    if (order_.size() == wanted) {
      if (!better(id, order_.front())) continue;
      std::pop_heap(order_.begin(), order_.end(), better);
      order_.pop_back();
    }
    order_.push_back(id);
    std::push_heap(order_.begin(), order_.end(), better);
  }
  std::sort_heap(order_.begin(), order_.end(), better);
  for (const auto id : order_) out.top.push_back({id, logprob(id)});
}

}  // namespace bitnet::engine
