#include "apps/bitnet_server/server_metrics.hpp"

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>
#include <prometheus/metric_type.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

namespace bitnet::apps {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// The buckets of vLLM, so that its dashboards' queries give comparable figures.
constexpr std::array first_token_seconds{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,
                                         0.5,   0.75,  1.0,  2.5,  5.0,  7.5,  10.0, 30.0, 60.0};
constexpr std::array token_seconds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15,
                                   0.2,   0.3,    0.4,   0.5,  0.75,  1.0,  2.5,   5.0};
constexpr std::array request_seconds{0.05, 0.1,  0.3,  0.5,  0.8,  1.0,  1.5,  2.0,  2.5,
                                     5.0,  10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0};
constexpr std::array token_counts{1.0,   2.0,   5.0,    10.0,   20.0,   50.0,   100.0,
                                  200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0};

}  // namespace

void histogram::record(double value) noexcept {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

MetricFamily histogram::collect() const {
  ClientMetric metric;
  std::uint64_t total = 0;
  for (std::size_t i = 0; i <= bounds_.size(); ++i) {
    total += counts_[i].load(std::memory_order_relaxed);
    const auto bound = i < bounds_.size() ? bounds_[i] : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back({total, bound});
  }
  metric.histogram.sample_count = total;
  metric.histogram.sample_sum = sum_.load(std::memory_order_relaxed);
  return {name_, help_, MetricType::Histogram, {std::move(metric)}};
}

server_metrics::server_metrics()
    : time_to_first_token("bitnet_time_to_first_token_seconds", "From a request to its first token.",
                          first_token_seconds),
      inter_token_latency("bitnet_inter_token_latency_seconds", "Between two tokens of a sequence.",
                          token_seconds),
      e2e_request_latency("bitnet_e2e_request_latency_seconds", "From a request to the end of its answer.",
                          request_seconds),
      request_decode_time("bitnet_request_decode_time_seconds",
                          "From a request's first token to the end of its answer.", request_seconds),
      request_prompt_tokens("bitnet_request_prompt_tokens", "Tokens of a request's prompts.", token_counts),
      request_generation_tokens("bitnet_request_generation_tokens", "Tokens generated for a request.",
                                token_counts) {}

void server_metrics::add_source(std::function<std::vector<MetricFamily>()> source) {
  sources_.push_back(std::move(source));
}

std::vector<MetricFamily> server_metrics::Collect() const {
  std::vector<MetricFamily> families;
  for (const auto* each : {&time_to_first_token, &inter_token_latency, &e2e_request_latency,
                           &request_decode_time, &request_prompt_tokens, &request_generation_tokens})
    families.push_back(each->collect());
  MetricFamily success{
      "bitnet_request_success_total", "Sequences that ended well, by how.", MetricType::Counter, {}};
  for (const auto& [how, name] : {std::pair{finish::stop, "stop"}, std::pair{finish::length, "length"}}) {
    ClientMetric metric;
    metric.label = {{"finished_reason", name}};
    metric.counter.value =
        static_cast<double>(finished_[static_cast<std::size_t>(how)].load(std::memory_order_relaxed));
    success.metric.push_back(std::move(metric));
  }
  families.push_back(std::move(success));
  for (const auto& source : sources_) {
    auto more = source();
    std::move(more.begin(), more.end(), std::back_inserter(families));
  }
  return families;
}

MetricFamily counter_family(std::string name, std::string help, std::uint64_t value) {
  ClientMetric metric;
  metric.counter.value = static_cast<double>(value);
  return {std::move(name), std::move(help), MetricType::Counter, {std::move(metric)}};
}

MetricFamily gauge_family(std::string name, std::string help, double value) {
  ClientMetric metric;
  metric.gauge.value = value;
  return {std::move(name), std::move(help), MetricType::Gauge, {std::move(metric)}};
}

}  // namespace bitnet::apps
