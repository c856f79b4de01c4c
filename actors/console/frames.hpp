#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// What travels between bitnet-console and a server: frames of a four-byte length (big endian) and as many
// bytes of JSON (UTF-8). The server speaks first (hello), the console says hello, then each request gets one
// answer. The answers are what --json prints, so that there is one schema with one version; see
// docs/console.md.

namespace bitnet::console {

inline constexpr int protocol_version = 1;
inline constexpr std::string_view schema = "bitnet.console/1";

inline constexpr std::size_t max_request_bytes = std::size_t{64} << 10;
inline constexpr std::size_t max_answer_bytes = std::size_t{8} << 20;

/// `payload` must be shorter than 4 GiB.
std::string encode_frame(std::string_view payload);

/// Cuts a stream of bytes into frames. Never holds more than one frame of `max_payload` bytes beyond what one
/// `feed` brought.
class frame_reader {
 public:
  explicit frame_reader(std::size_t max_payload) : max_payload_(max_payload) {}

  void feed(std::string_view bytes) { buffer_.append(bytes); }

  /// The next complete payload. Nothing: more bytes are needed, or `oversized`.
  std::optional<std::string> next();

  /// The length of the next frame is above the limit: nothing after it can be read, close the connection.
  bool oversized() const noexcept;
  /// `next` would give a payload.
  bool ready() const noexcept;
  /// Bytes of an incomplete frame are here.
  bool mid_frame() const noexcept { return !buffer_.empty(); }

 private:
  static constexpr std::size_t prefix = 4;

  std::optional<std::size_t> announced() const noexcept;

  std::size_t max_payload_;
  std::string buffer_;
};

}  // namespace bitnet::console
