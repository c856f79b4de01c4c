#include "actors/engine_process/frame_channel.hpp"

#include <fmt/format.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

namespace bitnet::actors {

namespace {

constexpr std::size_t receive_bytes = 64 << 10;
constexpr std::size_t max_descriptors = 2;
constexpr int send_wait_ms = 100;

struct header {
  std::uint16_t magic = frame_channel::magic;
  std::uint16_t version = frame_channel::version;
  std::uint16_t kind = 0;
  std::uint16_t reserved = 0;
  std::uint32_t length = 0;
};
static_assert(sizeof(header) == frame_channel::header_bytes && std::is_trivially_copyable_v<header>);

using control_buffer = std::array<char, CMSG_SPACE(max_descriptors * sizeof(int))>;

}  // namespace

std::optional<std::pair<descriptor, descriptor>> frame_channel::make_pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return std::nullopt;
  return std::pair{descriptor(ends[0]), descriptor(ends[1])};
}

frame_channel::frame_channel(descriptor socket) : socket_(std::move(socket)) {
  fcntl(socket_.get(), F_SETFL, fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
}

void frame_channel::fail(state why, std::string problem) {
  if (state_ != state::open) return;
  state_ = why;
  problem_ = std::move(problem);
}

bool frame_channel::send(frame_kind kind, std::span<const std::byte> payload,
                         std::span<const int> descriptors, const std::function<bool()>& on_wait) {
  if (state_ != state::open || payload.size() > max_payload_bytes || descriptors.size() > max_descriptors)
    return false;
  header head;
  head.kind = static_cast<std::uint16_t>(kind);
  head.length = static_cast<std::uint32_t>(payload.size());
  std::size_t sent = 0;
  const std::size_t total = header_bytes + payload.size();
  alignas(cmsghdr) control_buffer control{};
  while (sent < total) {
    std::array<iovec, 2> parts{};
    std::size_t count = 0;
    if (sent < header_bytes) parts[count++] = {reinterpret_cast<char*>(&head) + sent, header_bytes - sent};
    const auto skip = sent < header_bytes ? 0 : sent - header_bytes;
    if (payload.size() > skip)
      parts[count++] = {const_cast<std::byte*>(payload.data()) + skip, payload.size() - skip};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = count;
    if (sent == 0 && !descriptors.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
      auto* const c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(descriptors.size_bytes());
      memcpy(CMSG_DATA(c), descriptors.data(), descriptors.size_bytes());
    }
    const auto n = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (n >= 0) {
      sent += static_cast<std::size_t>(n);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
      // What it sent before it went may still be read: only a frame cut in two makes the channel useless.
      if (sent != 0) fail(state::closed, ::strerror(errno));
      return false;
    }
    pollfd ready{socket_.get(), POLLIN | POLLOUT, 0};
    poll(&ready, 1, send_wait_ms);
    if ((ready.revents & POLLIN) != 0) receive();
    if (on_wait && !on_wait()) {
      if (sent != 0) fail(state::closed, "gave up in the middle of a frame");
      return false;
    }
    if (state_ != state::open) return false;
  }
  return true;
}

void frame_channel::keep_descriptors(void* message) {
  auto* const m = static_cast<msghdr*>(message);
  for (auto* c = CMSG_FIRSTHDR(m); c != nullptr; c = CMSG_NXTHDR(m, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const auto count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      descriptors_.emplace_back(fd);
    }
  }
}

void frame_channel::receive() {
  while (state_ == state::open) {
    if (begin_ != 0) {
      memmove(in_.data(), in_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    // More than one frame of the largest size waits to be taken: let the other end wait.
    if (end_ > max_payload_bytes + receive_bytes) return;
    if (in_.size() - end_ < receive_bytes) in_.resize(std::max(2 * in_.size(), 2 * receive_bytes));
    iovec part{in_.data() + end_, receive_bytes};
    alignas(cmsghdr) control_buffer control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const auto n = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    const auto failure = errno;
    if (n > 0) {
      end_ += static_cast<std::size_t>(n);
      keep_descriptors(&message);
      if (static_cast<std::size_t>(n) < receive_bytes) return;
      continue;
    }
    if (n == 0) return fail(state::closed, "the other end was closed");
    if (failure == EINTR) continue;
    if (failure != EAGAIN && failure != EWOULDBLOCK) fail(state::closed, ::strerror(failure));
    return;
  }
}

std::optional<frame> frame_channel::next() {
  const auto available = std::span<const std::byte>(in_).subspan(begin_, end_ - begin_);
  if (state_ == state::malformed || available.size() < header_bytes) return std::nullopt;
  header head;
  memcpy(&head, available.data(), sizeof head);
  const auto refuse = [this](std::string why) {
    state_ = state::malformed;
    problem_ = std::move(why);
    return std::nullopt;
  };
  if (head.magic != magic) return refuse("it sent bytes that are no frame");
  if (head.version != version)
    return refuse(
        fmt::format("it speaks version {} of the protocol, not {}; install bitnet-server and "
                    "bitnet-worker from the same build",
                    head.version, version));
  if (head.kind == 0 || head.kind > last_frame_kind)
    return refuse(fmt::format("it sent a frame of the unknown kind {}", head.kind));
  if (head.length > max_payload_bytes)
    return refuse(fmt::format("it announced a frame of {} bytes, at most {} are taken", head.length,
                              max_payload_bytes));
  if (available.size() - header_bytes < head.length) return std::nullopt;
  const auto payload = available.subspan(header_bytes, head.length);
  frame result{static_cast<frame_kind>(head.kind), {payload.begin(), payload.end()}};
  begin_ += header_bytes + head.length;
  return result;
}

descriptor frame_channel::next_descriptor() {
  if (descriptors_.empty()) return {};
  auto first = std::move(descriptors_.front());
  descriptors_.pop_front();
  return first;
}

void frame_channel::wait(std::chrono::milliseconds limit, int other) const {
  std::array<pollfd, 2> ready{pollfd{socket_.get(), POLLIN, 0}, pollfd{other, POLLIN, 0}};
  poll(ready.data(), other < 0 ? 1 : 2, static_cast<int>(limit.count()));
}

}  // namespace bitnet::actors
