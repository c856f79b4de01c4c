#pragma once

#include "actors/cluster/message.hpp"
#include "actors/health.hpp"

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

// Both ends of a sequence whose worker is on another node: plain state machines, told what came.

namespace bitnet::actors::cluster {

struct stream_options {
  std::uint64_t window = 256;  ///< tokens that may be on the way: what a gateway must be able to hold
  std::chrono::milliseconds alive_every{500};
  /// Without a frame or a word from the worker's node; then the stream goes on elsewhere.
  std::chrono::milliseconds stall_after{2000};
  /// A frame that the worker's node says it has sent must be there after this.
  std::chrono::milliseconds gap_after{500};
};

/// The worker's end: holds frames back until the gateway has room for them.
class served_stream {
 public:
  served_stream(std::uint64_t stream, std::uint32_t attempt, std::uint64_t credit)
      : stream_(stream), attempt_(attempt), credit_(credit) {}

  /// A frame of the worker. It waits where there is no credit: no more than the sequence's own tokens, which
  /// its request bounds.
  void push(std::uint32_t tokens, bool last, std::string payload);
  void grant(std::uint64_t total) { credit_ = total > credit_ ? total : credit_; }
  /// What may be sent now, in order.
  std::vector<stream_frame> take();

  bool finished() const noexcept { return finished_ && waiting_.empty(); }
  stream_alive::entry alive() const noexcept { return {stream_, attempt_, next_seq_}; }

 private:
  std::uint64_t stream_;
  std::uint32_t attempt_;
  std::uint64_t credit_;
  std::uint64_t sent_tokens_ = 0;
  std::uint32_t next_seq_ = 0;
  bool finished_ = false;
  std::deque<stream_frame> waiting_;
};

/// The gateway's end of one attempt.
class forwarded_stream {
 public:
  forwarded_stream(std::uint32_t attempt, steady_time now, const stream_options& options)
      : options_(options), attempt_(attempt), heard_(now), credit_(options.window) {}

  enum class verdict : std::uint8_t {
    deliver,
    drop,  ///< of another attempt, or here already
    lost,  ///< one in between is missing: the attempt is of no use any more
  };
  verdict on_frame(const stream_frame& frame, steady_time now);
  void on_accept(std::uint32_t attempt, steady_time now);
  void on_alive(const stream_alive::entry& said, steady_time now);

  /// The new total to send to the worker's node, when enough has been taken to be worth a message.
  std::optional<std::uint64_t> grant();
  /// The current total, to repeat: the last one may have been lost.
  std::uint64_t credit() const noexcept { return credit_; }

  /// The stream must go on elsewhere: silence, or a frame that does not come.
  bool stalled(steady_time now) const;
  /// Time in which this process did not run counts for nobody's silence.
  void take_off(std::chrono::nanoseconds late) {
    heard_ += late;
    if (gap_since_) *gap_since_ += late;
  }

  std::uint32_t attempt() const noexcept { return attempt_; }
  std::uint32_t next_seq() const noexcept { return next_seq_; }

 private:
  stream_options options_;
  std::uint32_t attempt_;
  steady_time heard_;
  std::optional<steady_time> gap_since_;
  std::uint32_t next_seq_ = 0;
  std::uint64_t taken_ = 0;
  std::uint64_t credit_;
};

}  // namespace bitnet::actors::cluster
