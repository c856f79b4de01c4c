// bitnet-bench: how fast a model runs on this machine, and what its logits are.

#include "apps/bitnet_bench/measure.hpp"
#include "apps/bitnet_bench/options.hpp"
#include "apps/bitnet_bench/report.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <optional>
#include <utility>

namespace {

using namespace bitnet;
using apps::bench::machine_limits;
using apps::bench::options;
using apps::bench::run_report;
namespace json = boost::json;

constexpr int exit_failed = 1;
constexpr int exit_wrong_options = 2;

void print_logits(const options& chosen, const std::vector<std::vector<float>>& logits) {
  // Nine digits tell any two floats apart.
  fmt::print("{{\"tokens\":[{}],\"logits\":[", fmt::join(chosen.logits_of, ","));
  for (std::size_t i = 0; i < logits.size(); ++i) {
    fmt::print("{}[", i == 0 ? "" : ",");
    for (std::size_t j = 0; j < logits[i].size(); ++j)
      fmt::print("{}{:.9g}", j == 0 ? "" : ",", logits[i][j]);
    fmt::print("]");
  }
  fmt::print("]}}\n");
}

int fail(std::string_view message, int status) {
  fmt::print(stderr, "bitnet-bench: {}\n", message);
  return status;
}

machine_limits greater(const machine_limits& a, const machine_limits& b) {
  return {std::max(a.read_bytes_per_second, b.read_bytes_per_second),
          std::max(a.macs_per_second, b.macs_per_second)};
}

/// One combination of a loaded model. The limits are taken on both sides of it: what other guests leave of a
/// host's memory changes from second to second.
engine::result<run_report> measure_one(const std::shared_ptr<const engine::model>& model,
                                       const options& chosen, double load_seconds) {
  std::optional<machine_limits> limits;
  const auto threads = engine::thread_count(*model->weights, chosen.threads);
  if (chosen.limits) limits = apps::bench::measure_limits(threads, chosen.kernels);
  auto measured = apps::bench::measure(model, chosen);
  if (!measured) return tl::unexpected(measured.error());
  if (limits) limits = greater(*limits, apps::bench::measure_limits(threads, chosen.kernels));
  return run_report{*model, chosen, load_seconds, std::move(*measured), limits};
}

int run(const std::vector<options>& combinations) {
  const auto& common = combinations.front();
  engine::load_options how;
  how.threads = common.threads;
  how.head = common.head;
  how.screen_head = common.screen_head;
  how.decode = common.decode;
  how.isa = common.kernels;
  const auto start = std::chrono::steady_clock::now();
  const auto model = engine::load_model(common.model, how);
  if (!model) return fail(model.error().message, exit_failed);
  const std::chrono::duration<double> load_time = std::chrono::steady_clock::now() - start;

  if (!common.logits_of.empty()) {
    const auto logits = apps::bench::logits_of(**model, common);
    if (!logits) return fail(logits.error().message, exit_failed);
    print_logits(common, *logits);
    return 0;
  }
  json::array reports;
  for (const auto& chosen : combinations) {
    const auto report = measure_one(*model, chosen, load_time.count());
    if (!report) return fail(report.error().message, exit_failed);
    if (common.json) {
      reports.push_back(to_json(*report));
    } else {
      fmt::print("{}", to_text(*report));
      std::fflush(stdout);
    }
  }
  if (!common.json) return 0;
  if (reports.size() == 1)
    fmt::print("{}\n", json::serialize(reports.front()));
  else
    fmt::print("{}\n", json::serialize(json::object{{"runs", std::move(reports)}}));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto chosen = apps::bench::parse(argc, argv);
    if (!chosen) return fail(chosen.error() + "; see --help", exit_wrong_options);
    if (!chosen->front().help) return run(*chosen);
    fmt::print("{}", apps::bench::usage());
    return 0;
  } catch (const std::exception& problem) {
    return fail(problem.what(), exit_failed);
  }
}
