#include "actors/resumable_stream.hpp"

#include <utility>

namespace bitnet::actors {

engine::generation_request resumable_stream::begin_attempt() {
  phase_ = phase::submitted;
  ++attempt_;
  next_seq_ = 0;
  progressed_ = false;
  return request_;
}

void resumable_stream::accept(std::uint32_t attempt) {
  if (phase_ == phase::submitted && attempt == attempt_) phase_ = phase::running;
}

resumable_stream::meaning resumable_stream::take(token_frame& frame) {
  if (!in_flight() || frame.attempt != attempt_ || frame.seq < next_seq_) return meaning::dropped;
  if (frame.seq > next_seq_) return meaning::frames_lost;
  ++next_seq_;
  if (frame.finish == engine::finish_reason::failed) {
    if (frame.error == error_code::worker_lost) return meaning::worker_lost;
    // A broken engine, or a request that breaks a sound one? The worker proves itself after a failure, and
    // only a sound one is there for the second try.
    if (frame.error == error_code::internal && ++failures_ == 1) return meaning::computation_failed;
  }
  phase_ = phase::running;
  if (!frame.tokens.empty()) {
    progressed_ = true;
    suspect_ = false;
    sole_blames_ = 0;
    for (const auto& token : frame.tokens) request_.emitted.push_back(token.id);
  }
  if (!cached_tokens_) cached_tokens_ = frame.usage.cached_tokens;
  frame.usage.cached_tokens = *cached_tokens_;
  usage_ = frame.usage;
  frame.request = request_.id;
  frame.attempt = client_attempt_;
  frame.seq = client_seq_++;
  if (frame.finish == engine::finish_reason::none) return meaning::forward;
  phase_ = phase::ended;
  return meaning::ended;
}

void resumable_stream::lose(blame why) {
  if (!in_flight()) return;
  phase_ = phase::waiting;
  ++losses_;
  if (why == blame::none) return;
  suspect_ = true;
  if (why == blame::sole) ++sole_blames_;
}

void resumable_stream::postpone(steady_time until) {
  if (phase_ == phase::ended) return;
  phase_ = phase::waiting;
  not_before_ = until;
}

token_frame resumable_stream::fail(error_code code, std::string message) {
  phase_ = phase::ended;
  token_frame frame;
  frame.request = request_.id;
  frame.attempt = client_attempt_;
  frame.seq = client_seq_++;
  frame.finish = engine::finish_reason::failed;
  frame.usage = usage_;
  frame.error = code;
  frame.error_message = std::move(message);
  return frame;
}

}  // namespace bitnet::actors
