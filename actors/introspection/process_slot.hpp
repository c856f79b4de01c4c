#pragma once

#include "actors/introspection/latency_window.hpp"
#include "actors/introspection/message_kind.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace bitnet::actors {

/// Text of at most `Words` * 8 bytes that one thread sets while others read.
template <std::size_t Words>
class atomic_text {
 public:
  void set(std::string_view text) noexcept {
    for (std::size_t w = 0; w < Words; ++w) {
      std::uint64_t bits = 0;
      for (std::size_t b = 0; b < 8 && w * 8 + b < text.size(); ++b)
        bits |= std::uint64_t{static_cast<unsigned char>(text[w * 8 + b])} << (8 * b);
      words_[w].store(bits, std::memory_order_relaxed);
    }
  }
  std::string get() const {
    std::string text;
    for (const auto& word : words_)
      for (auto bits = word.load(std::memory_order_relaxed); bits != 0; bits >>= 8)
        text += static_cast<char>(bits & 0xFF);
    return text;
  }

 private:
  std::array<std::atomic<std::uint64_t>, Words> words_{};
};

/// A message_kind that one thread sets while others read.
class atomic_kind {
 public:
  void set(const message_kind& kind) noexcept {
    atom_.store(kind.atom, std::memory_order_relaxed);
    type_.store(kind.type, std::memory_order_relaxed);
    origin_.store(static_cast<std::uint32_t>(kind.from) << 16 | kind.number, std::memory_order_relaxed);
  }
  message_kind get() const noexcept {
    const auto origin = origin_.load(std::memory_order_relaxed);
    return {static_cast<message_kind::origin>(origin >> 16), static_cast<std::uint16_t>(origin & 0xFFFF),
            atom_.load(std::memory_order_relaxed), type_.load(std::memory_order_relaxed)};
  }

 private:
  std::atomic<std::uint64_t> atom_{0};
  std::atomic<const std::type_info*> type_{nullptr};
  std::atomic<std::uint32_t> origin_{0};
};

/// What one window of time saw of an actor. Written by the actor's thread.
struct process_window {
  std::atomic<std::int64_t> number{-1};  ///< time / length; -1: being cleared
  std::atomic<std::uint64_t> done{0};
  std::atomic<std::int64_t> busy_ns{0};
  latency_histogram handling;
  latency_histogram waiting;
};

/// What the table keeps of one actor: three groups of cache lines, by who writes them.
struct process_slot {
  enum class phase : std::uint8_t { free, claimed, running, ended };

  static constexpr std::size_t stamps = 64;  ///< messages in the mailbox whose arrival is known exactly
  static constexpr std::size_t kept_messages = 8;

  std::uint32_t place = 0;                  ///< in the table
  std::atomic<std::uint32_t> next_free{0};  ///< in the list of free slots: place + 1, 0 at its end

  // Who it is; written at spawn and end. `version` is odd while that happens.
  std::atomic<std::uint32_t> version{0};
  std::atomic<phase> state{phase::free};
  std::atomic<std::uint64_t> id{0};
  std::atomic<std::uint64_t> parent{0};
  std::atomic<std::int64_t> spawned_ns{0};
  std::atomic<std::uint64_t> incarnation{0};
  std::atomic<std::int64_t> patience_ns{0};
  std::atomic<bool> supervised{false};
  atomic_text<6> name;
  atomic_text<24> last_error;

  // Written by senders.
  alignas(64) std::atomic<std::uint64_t> enqueued{0};
  std::atomic<std::uint64_t> high_water{0};
  /// Arrival of message n at n % stamps: time in 256 ns above, the low 16 bits of n below.
  std::array<std::atomic<std::uint64_t>, stamps> arrivals{};

  // Written by the actor's own thread.
  alignas(64) std::atomic<std::uint64_t> done{0};
  std::atomic<std::int64_t> started_ns{0};  ///< of the message in hand; 0: none
  std::atomic<std::int64_t> thread{0};      ///< kernel's id of the thread that handles, or handled last
  atomic_kind current;
  std::array<process_window, 2> windows;
  struct handled {
    atomic_kind kind;
    std::atomic<std::int64_t> ended_ns{0};
    std::atomic<std::int64_t> took_ns{0};
  };
  std::array<handled, kept_messages> last;  ///< a ring in the order of `done`
};

}  // namespace bitnet::actors
