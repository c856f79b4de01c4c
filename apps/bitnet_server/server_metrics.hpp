#pragma once

#include <prometheus/collectable.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace bitnet::apps {

/// Counts values by size. Recording is two relaxed additions; any thread.
class histogram {
 public:
  static constexpr std::size_t most_bounds = 20;

  /// `bounds`: upper ends, ascending, at most most_bounds; beyond the last there is one more bucket. They
  /// must outlive the histogram.
  histogram(const char* name, const char* help, std::span<const double> bounds) noexcept
      : name_(name), help_(help), bounds_(bounds) {}

  void record(double value) noexcept;
  prometheus::MetricFamily collect() const;

 private:
  const char* name_;
  const char* help_;
  std::span<const double> bounds_;
  std::array<std::atomic<std::uint64_t>, most_bounds + 1> counts_{};
  std::atomic<double> sum_{0};
};

/// What the paths of a request record for /metrics, beside the figures of the health snapshot.
class server_metrics : public prometheus::Collectable {
 public:
  server_metrics();

  histogram time_to_first_token;
  histogram inter_token_latency;
  histogram e2e_request_latency;
  histogram request_decode_time;
  histogram request_prompt_tokens;
  histogram request_generation_tokens;

  enum class finish : std::uint8_t { stop, length };
  void count_success(finish how) noexcept {
    finished_[static_cast<std::size_t>(how)].fetch_add(1, std::memory_order_relaxed);
  }

  /// Families that others count: read at each collection, must not block. Before the first collection.
  void add_source(std::function<std::vector<prometheus::MetricFamily>()> source);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  std::array<std::atomic<std::uint64_t>, 2> finished_{};
  std::vector<std::function<std::vector<prometheus::MetricFamily>()>> sources_;
};

/// A family with one sample.
prometheus::MetricFamily counter_family(std::string name, std::string help, std::uint64_t value);
prometheus::MetricFamily gauge_family(std::string name, std::string help, double value);

}  // namespace bitnet::apps
