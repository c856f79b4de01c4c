#include "actors/console/frames.hpp"

namespace bitnet::console {

std::string encode_frame(std::string_view payload) {
  const auto size = static_cast<std::uint32_t>(payload.size());
  std::string frame;
  frame.reserve(payload.size() + 4);
  for (int shift = 24; shift >= 0; shift -= 8) frame += static_cast<char>((size >> shift) & 0xFFU);
  frame += payload;
  return frame;
}

std::optional<std::size_t> frame_reader::announced() const noexcept {
  if (buffer_.size() < prefix) return std::nullopt;
  std::size_t size = 0;
  for (std::size_t i = 0; i < prefix; ++i) size = size << 8 | static_cast<unsigned char>(buffer_[i]);
  return size;
}

std::optional<std::string> frame_reader::next() {
  if (!ready()) return std::nullopt;
  const auto size = *announced();
  auto payload = buffer_.substr(prefix, size);
  buffer_.erase(0, prefix + size);
  return payload;
}

bool frame_reader::ready() const noexcept {
  const auto size = announced();
  return size && *size <= max_payload_ && buffer_.size() >= prefix + *size;
}

bool frame_reader::oversized() const noexcept {
  const auto size = announced();
  return size && *size > max_payload_;
}

}  // namespace bitnet::console
