#include "actors/cluster/stream.hpp"

#include <utility>

namespace bitnet::actors::cluster {

void served_stream::push(std::uint32_t tokens, bool last, std::string payload) {
  finished_ = finished_ || last;
  waiting_.push_back({stream_, attempt_, 0, tokens, last, std::move(payload)});
}

std::vector<stream_frame> served_stream::take() {
  std::vector<stream_frame> result;
  // A frame goes out while any credit is left, so that one with many tokens cannot wait for ever.
  while (!waiting_.empty() && (sent_tokens_ < credit_ || waiting_.front().tokens == 0)) {
    auto frame = std::move(waiting_.front());
    waiting_.pop_front();
    frame.seq = next_seq_++;
    sent_tokens_ += frame.tokens;
    result.push_back(std::move(frame));
  }
  return result;
}

forwarded_stream::verdict forwarded_stream::on_frame(const stream_frame& frame, steady_time now) {
  if (frame.attempt != attempt_ || frame.seq < next_seq_) return verdict::drop;
  heard_ = now;
  if (frame.seq > next_seq_) return verdict::lost;
  ++next_seq_;
  gap_since_.reset();
  taken_ += frame.tokens;
  return verdict::deliver;
}

void forwarded_stream::on_accept(std::uint32_t attempt, steady_time now) {
  if (attempt == attempt_) heard_ = now;
}

void forwarded_stream::on_alive(const stream_alive::entry& said, steady_time now) {
  if (said.attempt != attempt_) return;
  heard_ = now;
  if (said.next_seq > next_seq_ && !gap_since_) gap_since_ = now;
}

std::optional<std::uint64_t> forwarded_stream::grant() {
  const auto total = taken_ + options_.window;
  if (total - credit_ < options_.window / 2) return std::nullopt;
  credit_ = total;
  return credit_;
}

bool forwarded_stream::stalled(steady_time now) const {
  return now - heard_ >= options_.stall_after || (gap_since_ && now - *gap_since_ >= options_.gap_after);
}

}  // namespace bitnet::actors::cluster
