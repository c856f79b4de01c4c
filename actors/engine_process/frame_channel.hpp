#pragma once

#include "actors/descriptor.hpp"
#include "actors/engine_process/wire.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace bitnet::actors {

struct frame {
  frame_kind kind{};
  std::vector<std::byte> payload;
};

/// Frames over one end of a Unix stream socket pair, which nobody else can reach: no port, no secret. A frame
/// is a header of 12 bytes (magic, version, kind, reserved, payload length) and its payload. Owned by one
/// thread.
class frame_channel {
 public:
  static constexpr std::uint16_t magic = 0xB17E;
  static constexpr std::uint16_t version = 1;
  static constexpr std::size_t header_bytes = 12;
  static constexpr std::size_t max_payload_bytes = std::size_t{64} << 20;

  enum class state : std::uint8_t {
    open,
    closed,     ///< the other end is gone
    malformed,  ///< it sent what no frame is: `problem` says what
  };

  /// Two connected ends, close-on-exec. Nothing where the system has no more descriptors.
  static std::optional<std::pair<descriptor, descriptor>> make_pair();

  explicit frame_channel(descriptor socket);

  /// Sends a whole frame, with copies of `descriptors` (at most 2). While the other end does not read,
  /// `on_wait` is called every 100 ms, and what comes in is taken, so that two ends that both send cannot
  /// wait for each other. False where the other end is gone or `on_wait` returned false.
  bool send(frame_kind kind, std::span<const std::byte> payload, std::span<const int> descriptors = {},
            const std::function<bool()>& on_wait = {});

  /// Takes what has arrived, without waiting.
  void receive();
  /// The next whole frame of what was taken.
  std::optional<frame> next();
  /// The next descriptor that came along; -1 where there is none.
  descriptor next_descriptor();

  /// Waits until something can be received, or `other` (-1: none) becomes readable, or the time is over.
  void wait(std::chrono::milliseconds limit, int other = -1) const;

  state status() const noexcept { return state_; }
  const std::string& problem() const noexcept { return problem_; }
  int socket() const noexcept { return socket_.get(); }

 private:
  void fail(state why, std::string problem);
  void keep_descriptors(void* message);

  descriptor socket_;
  state state_ = state::open;
  std::string problem_;
  std::vector<std::byte> in_;  ///< [begin_, end_) has arrived and is not taken yet
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::deque<descriptor> descriptors_;
};

}  // namespace bitnet::actors
