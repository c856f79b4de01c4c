#include "actors/stream_table.hpp"

#include <algorithm>
#include <utility>

namespace bitnet::actors {

using phase = resumable_stream::phase;

stream_table::key stream_table::add(engine::generation_request request, std::uint32_t client_attempt,
                                    steady_time now) {
  const auto k = ++last_key_;
  streams_.emplace(k, entry{resumable_stream(std::move(request), client_attempt), {}, now});
  waiting_.insert(k);
  return k;
}

resumable_stream* stream_table::find(key k) {
  const auto found = streams_.find(k);
  return found == streams_.end() ? nullptr : &found->second.stream;
}

void stream_table::erase(key k) {
  streams_.erase(k);
  waiting_.erase(k);
}

bool stream_table::all_proven() const {
  return std::none_of(streams_.begin(), streams_.end(), [](const auto& s) {
    const auto& stream = s.second.stream;
    return stream.current() == phase::submitted || stream.unproven();
  });
}

std::optional<stream_table::key> stream_table::next(steady_time now) {
  std::optional<key> suspect;
  std::optional<key> fresh;
  for (const auto k : waiting_) {
    const auto& s = streams_.at(k).stream;
    if (s.not_before() > now) continue;
    if (!s.suspect() && !s.first_attempt()) return k;
    auto& first = s.suspect() ? suspect : fresh;
    if (!first) first = k;
  }
  std::erase_if(on_trial_, [this](key k) {
    const auto* s = find(k);
    return s == nullptr || !s->suspect() || !s->in_flight();
  });
  const auto waited = [&](key k) { return now - streams_.at(k).waiting_since; };
  if (suspect && on_trial_.empty() && (all_proven() || waited(*suspect) >= options_.trial_patience))
    return suspect;
  const bool trials = suspect || !on_trial_.empty();
  if (fresh && (!trials || waited(*fresh) >= options_.new_request_wait)) return fresh;
  return std::nullopt;
}

engine::generation_request stream_table::begin(key k, worker_run to) {
  auto& e = streams_.at(k);
  e.at = to;
  waiting_.erase(k);
  if (e.stream.suspect()) on_trial_.insert(k);
  auto request = e.stream.begin_attempt();
  request.id = k;  // clients' ids need not differ from each other
  return request;
}

std::vector<stream_table::key> stream_table::lose_worker(worker_run which, steady_time now,
                                                         std::uint64_t batch) {
  std::uint64_t unproven = 0;
  std::uint64_t proven = 0;
  for (const auto& [k, e] : streams_) {
    if (e.at != which || e.stream.current() != phase::running) continue;
    ++(e.stream.unproven() ? unproven : proven);
  }
  // Those that got something have places in the batch; the others share what is left of it.
  const auto places = batch == 0 ? unproven : batch - std::min(batch, proven);
  const auto verdict = places == 0                    ? resumable_stream::blame::none
                       : unproven == 1 && places >= 1 ? resumable_stream::blame::sole
                                                      : resumable_stream::blame::shared;
  std::vector<key> quarantined;
  for (auto& [k, e] : streams_) {
    if (e.at != which || !e.stream.in_flight()) continue;
    const auto why = e.stream.unproven() ? verdict : resumable_stream::blame::none;
    e.stream.lose(why);
    e.waiting_since = now;
    waiting_.insert(k);
    if (e.stream.sole_blames() >= options_.quarantine_after) quarantined.push_back(k);
  }
  return quarantined;
}

void stream_table::lose(key k, steady_time now, std::chrono::milliseconds delay) {
  auto& e = streams_.at(k);
  e.stream.lose(resumable_stream::blame::none);
  e.stream.postpone(now + delay);
  e.waiting_since = now;
  waiting_.insert(k);
}

void stream_table::postpone(key k, steady_time now) {
  streams_.at(k).stream.postpone(now + options_.retry_delay);
  waiting_.insert(k);
}

std::vector<stream_table::key> stream_table::expired(steady_time now, steady_time without_worker) const {
  std::vector<key> result;
  for (const auto k : waiting_) {
    const auto& e = streams_.at(k);
    const auto since = std::max(e.waiting_since, without_worker);
    const auto limit = e.stream.first_attempt() ? options_.new_request_wait : options_.resume_wait;
    if (now - since >= limit) result.push_back(k);
  }
  return result;
}

}  // namespace bitnet::actors
