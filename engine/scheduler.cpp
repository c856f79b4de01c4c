#include "engine/scheduler.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace bitnet::engine {

namespace {

std::size_t blocks_for(std::size_t tokens) noexcept {
  return (tokens + kernels::kv_block_tokens - 1) / kernels::kv_block_tokens;
}

}  // namespace

std::size_t prefill_budget(std::size_t most, bool others_decode, double seconds_per_token,
                           double wait_seconds) noexcept {
  constexpr std::size_t least = 16;
  if (!others_decode || wait_seconds <= 0 || seconds_per_token * static_cast<double>(most) <= wait_seconds)
    return most;
  return std::min(most, std::max(least, static_cast<std::size_t>(wait_seconds / seconds_per_token)));
}

scheduler::scheduler(kv_cache& cache, const limits& most) : cache_(cache), limits_(most) {
  running_.reserve(most.sequences);
  plan_.reserve(most.sequences);
}

void scheduler::enqueue(std::unique_ptr<sequence> s) {
  ++clients_[s->request.client].sequences;
  queue_.push_back(std::move(s));
}

bool scheduler::contains(request_id id) const noexcept {
  const auto has_id = [id](const auto& s) { return s->request.id == id; };
  return std::any_of(running_.begin(), running_.end(), has_id) ||
         std::any_of(queue_.begin(), queue_.end(), has_id);
}

bool scheduler::decodes() const noexcept {
  return std::any_of(running_.begin(), running_.end(),
                     [](const auto& s) { return s->computed != 0 && s->computed + 1 == s->tokens.size(); });
}

std::span<const planned_chunk> scheduler::plan(std::size_t prefill_tokens) {
  admit();
  plan_.clear();
  auto prefill_left = prefill_tokens;
  // Most urgent first, so that whoever is preempted has no place in the plan yet. `running_` may shrink
  // meanwhile.
  for (std::size_t i = 0; i < running_.size(); ++i) {
    auto& s = *running_[i];
    const auto pending = s.tokens.size() - s.computed;
    const auto count = pending == 1 ? 1 : std::min(pending, prefill_left);
    if (count == 0) continue;
    if (!reserve_blocks(s, s.computed + count)) break;
    if (pending != 1) prefill_left -= count;
    plan_.push_back({&s, count});
  }
  return plan_;
}

void scheduler::mark_computed(const planned_chunk& chunk) {
  auto& s = *chunk.target;
  s.computed += chunk.count;
  if (!limits_.prefix_cache) return;
  for (; (s.published + 1) * kernels::kv_block_tokens <= s.computed; ++s.published)
    s.prefix = cache_.publish(s.blocks[s.published], s.prefix, s.block_tokens(s.published));
}

std::unique_ptr<sequence> scheduler::remove(request_id id, bool sound) {
  const auto has_id = [id](const auto& s) { return s->request.id == id; };
  std::unique_ptr<sequence> removed;
  if (const auto r = std::find_if(running_.begin(), running_.end(), has_id); r != running_.end()) {
    removed = std::move(*r);
    running_.erase(r);
    --clients_[removed->request.client].running;
  } else if (const auto q = std::find_if(queue_.begin(), queue_.end(), has_id); q != queue_.end()) {
    removed = std::move(*q);
    queue_.erase(q);
  }
  if (!removed) return nullptr;
  const auto client = clients_.find(removed->request.client);
  if (--client->second.sequences == 0) clients_.erase(client);
  if (!sound) {
    for (const auto block : removed->blocks) cache_.forget(block);
  }
  release_blocks(*removed);
  return removed;
}

/// Index of the sequence whose turn it is. The queue must not be empty.
std::size_t scheduler::next_in_queue() const {
  const auto rank = [&](std::size_t i) {
    const auto& s = *queue_[i];
    const auto& client = clients_.at(s.request.client);
    return std::make_tuple(s.request.priority, !s.admitted_before, client.running, client.last_turn, i);
  };
  std::size_t best = 0;
  for (std::size_t i = 1; i < queue_.size(); ++i)
    if (rank(i) < rank(best)) best = i;
  return best;
}

void scheduler::admit() {
  while (!queue_.empty() && running_.size() < limits_.sequences) {
    const auto next = queue_.begin() + static_cast<std::ptrdiff_t>(next_in_queue());
    // Nobody overtakes a sequence that does not fit yet: it would wait forever.
    if (!admit(**next)) return;
    auto& client = clients_[(*next)->request.client];
    ++client.running;
    client.last_turn = ++turns_;
    const auto after = std::find_if(running_.begin(), running_.end(), [&](const auto& s) {
      return s->request.priority > (*next)->request.priority;
    });
    running_.insert(after, std::move(*next));
    queue_.erase(next);
  }
}

/// Takes the blocks that the prefix cache has. Refuses where the rest of the prompt does not fit, and a block
/// for each running sequence besides: otherwise the newcomer would soon be preempted.
bool scheduler::admit(sequence& s) {
  if (limits_.prefix_cache) {
    // The last token is computed in any case: its logits are needed.
    const auto full_blocks = (s.tokens.size() - 1) / kernels::kv_block_tokens;
    while (s.blocks.size() < full_blocks) {
      const auto hit = cache_.find(s.prefix, s.block_tokens(s.blocks.size()));
      if (!hit) break;
      s.blocks.push_back(hit->first);
      s.prefix = hit->second;
    }
    s.published = s.blocks.size();
    s.computed = s.published * kernels::kv_block_tokens;
  }
  const auto missing = blocks_for(s.tokens.size()) - s.blocks.size();
  if (missing + running_.size() > cache_.free_blocks()) {
    release_blocks(s);
    return false;
  }
  cached_tokens_ += s.computed;
  if (!std::exchange(s.admitted_before, true))
    s.cached_tokens = std::min(s.computed, s.request.prompt.size());
  return true;
}

/// Blocks for the first `length` tokens; preempts less urgent and younger sequences for them. False where `s`
/// itself was the last and had to go.
bool scheduler::reserve_blocks(sequence& s, std::size_t length) {
  while (s.blocks.size() < blocks_for(length)) {
    if (const auto block = cache_.allocate()) {
      s.blocks.push_back(*block);
      continue;
    }
    const bool was_last = running_.back().get() == &s;
    preempt_last();
    if (was_last) return false;
  }
  return true;
}

void scheduler::preempt_last() {
  release_blocks(*running_.back());
  --clients_[running_.back()->request.client].running;
  queue_.insert(queue_.begin(), std::move(running_.back()));
  running_.pop_back();
  ++preemptions_;
}

void scheduler::release_blocks(sequence& s) noexcept {
  while (!s.blocks.empty()) {
    cache_.release(s.blocks.back());
    s.blocks.pop_back();
  }
  s.computed = 0;
  s.published = 0;
  s.prefix = 0;
}

}  // namespace bitnet::engine
