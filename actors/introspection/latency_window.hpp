#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace bitnet::actors {

/// Counts of durations in four classes an octave, from 1 us to 2^26 us (67 s): a percentile is at most a
/// fifth above the truth. One thread adds, any reads.
class latency_histogram {
 public:
  static constexpr std::size_t per_octave = 4;
  static constexpr std::size_t octaves = 26;
  static constexpr std::size_t classes = per_octave * octaves + 2;  ///< with those below and above

  static std::size_t class_of(std::int64_t ns) noexcept {
    if (ns < 1024) return 0;
    const auto value = static_cast<std::uint64_t>(ns) >> 8;  // 1024 ns is 4: two bits below the leading one
    const auto octave = static_cast<std::size_t>(std::bit_width(value)) - 3;
    if (octave >= octaves) return classes - 1;
    return 1 + octave * per_octave + ((value >> octave) & 3U);
  }

  /// Upper end of a class, nanoseconds.
  static std::int64_t upper_end(std::size_t index) noexcept {
    if (index == 0) return 1024;
    const auto octave = (index - 1) / per_octave;
    const auto quarter = (index - 1) % per_octave;
    return static_cast<std::int64_t>((quarter + 5) << (octave + 8));
  }

  void add(std::int64_t ns) noexcept {
    auto& count = counts_[class_of(ns)];
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void clear() noexcept {
    for (auto& count : counts_) count.store(0, std::memory_order_relaxed);
  }
  void add_to(std::array<std::uint64_t, classes>& sums) const noexcept {
    for (std::size_t i = 0; i < classes; ++i) sums[i] += counts_[i].load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint32_t>, classes> counts_{};
};

/// Smallest upper end under which lie `fraction` of the counted durations, nanoseconds; 0 without any.
inline std::int64_t percentile(const std::array<std::uint64_t, latency_histogram::classes>& counts,
                               double fraction) noexcept {
  std::uint64_t total = 0;
  for (const auto count : counts) total += count;
  if (total == 0) return 0;
  const auto wanted = static_cast<double>(total) * fraction;
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    seen += counts[i];
    if (static_cast<double>(seen) >= wanted) return latency_histogram::upper_end(i);
  }
  return latency_histogram::upper_end(counts.size() - 1);
}

}  // namespace bitnet::actors
