// bitnet-bench: how fast a model runs on this machine, and what its logits are.

#include "apps/bitnet_bench/measure.hpp"
#include "apps/bitnet_bench/options.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <numeric>
#include <utility>

namespace {

using namespace bitnet;
using apps::bench::measurement;
using apps::bench::options;
namespace json = boost::json;

constexpr int exit_failed = 1;
constexpr int exit_wrong_options = 2;

struct summary {
  double median;
  double least;
  double most;
};

summary summarise(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto n = values.size();
  return {(values[(n - 1) / 2] + values[n / 2]) / 2, values.front(), values.back()};
}

/// What reading the weights once a step amounts to, at the median rate.
double gigabytes_per_second(const engine::model& model, const options& chosen, double tokens_per_second) {
  return static_cast<double>(model.weights->bytes_read_per_token()) * tokens_per_second /
         static_cast<double>(chosen.batch) * 1e-9;
}

double total(const engine::forward_profile& profile) {
  return std::accumulate(profile.seconds.begin(), profile.seconds.end(), 0.0);
}

json::object rates_to_json(const std::vector<double>& rates) {
  const auto s = summarise(rates);
  return {{"tokens_per_second", {{"median", s.median}, {"min", s.least}, {"max", s.most}}}};
}

json::object profile_to_json(const engine::forward_profile& profile) {
  json::object operations;
  for (std::size_t i = 0; i < engine::operation_count; ++i) {
    operations[engine::to_string(static_cast<engine::operation>(i))] = {
        {"seconds", profile.seconds[i]}, {"share", profile.seconds[i] / std::max(total(profile), 1e-12)}};
  }
  return {{"passes", profile.passes}, {"seconds", total(profile)}, {"operations", std::move(operations)}};
}

void print_json(const engine::model& model, const options& chosen, double load_seconds,
                const measurement& m) {
  json::object generate = rates_to_json(m.generate_rates);
  generate["bytes_per_step"] = model.weights->bytes_read_per_token();
  generate["gigabytes_per_second"] = gigabytes_per_second(model, chosen, summarise(m.generate_rates).median);
  json::object report{
      {"model", {{"id", model.id}, {"name", model.config().name}, {"file_bytes", model.file_bytes}}},
      {"kernels", kernels::to_string(chosen.kernels)},
      {"threads", engine::thread_count(*model.weights, chosen.threads)},
      {"batch", chosen.batch},
      {"prompt_tokens", chosen.prompt_tokens},
      {"generate_tokens", chosen.generate_tokens},
      {"prefill_chunk", chosen.prefill_chunk},
      {"repetitions", chosen.repetitions},
      {"load_seconds", load_seconds},
      {"prompt", rates_to_json(m.prompt_rates)},
      {"generate", std::move(generate)}};
  if (chosen.profile) {
    report["profile"] = {{"prompt", profile_to_json(m.prompt_profile)},
                         {"generate", profile_to_json(m.generate_profile)}};
  }
  fmt::print("{}\n", json::serialize(report));
}

void print_profile(const char* name, const engine::forward_profile& profile) {
  fmt::print("\n{}: {} passes, {:.3f} ms each\n", name, profile.passes,
             1e3 * total(profile) / static_cast<double>(std::max<std::uint64_t>(profile.passes, 1)));
  for (std::size_t i = 0; i < engine::operation_count; ++i) {
    fmt::print("  {:<20}{:>10.3f} ms{:>7.1f} %\n", engine::to_string(static_cast<engine::operation>(i)),
               1e3 * profile.seconds[i] / static_cast<double>(std::max<std::uint64_t>(profile.passes, 1)),
               100 * profile.seconds[i] / std::max(total(profile), 1e-12));
  }
}

void print_text(const engine::model& model, const options& chosen, double load_seconds,
                const measurement& m) {
  const auto prompt = summarise(m.prompt_rates);
  const auto generate = summarise(m.generate_rates);
  fmt::print("{} ({}), {} kernels, {} threads, batch {}, loaded in {:.2f} s\n", model.id, model.config().name,
             kernels::to_string(chosen.kernels), engine::thread_count(*model.weights, chosen.threads),
             chosen.batch, load_seconds);
  fmt::print("pp {:<6} {:>10.2f} tokens/s   ({:.2f} to {:.2f})\n", chosen.prompt_tokens, prompt.median,
             prompt.least, prompt.most);
  fmt::print("tg {:<6} {:>10.2f} tokens/s   ({:.2f} to {:.2f}), {:.1f} MB a step, {:.2f} GB/s\n",
             chosen.generate_tokens, generate.median, generate.least, generate.most,
             static_cast<double>(model.weights->bytes_read_per_token()) * 1e-6,
             gigabytes_per_second(model, chosen, generate.median));
  if (!chosen.profile) return;
  print_profile("Prompt", m.prompt_profile);
  print_profile("Generate", m.generate_profile);
}

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

int run(const options& chosen) {
  engine::load_options how;
  how.threads = chosen.threads;
  how.head = chosen.head;
  how.decode = chosen.decode;
  how.isa = chosen.kernels;
  const auto start = std::chrono::steady_clock::now();
  const auto model = engine::load_model(chosen.model, how);
  if (!model) return fail(model.error().message, exit_failed);
  const std::chrono::duration<double> load_time = std::chrono::steady_clock::now() - start;

  if (!chosen.logits_of.empty()) {
    const auto logits = apps::bench::logits_of(**model, chosen);
    if (!logits) return fail(logits.error().message, exit_failed);
    print_logits(chosen, *logits);
    return 0;
  }
  const auto measured = apps::bench::measure(*model, chosen);
  if (!measured) return fail(measured.error().message, exit_failed);
  (chosen.json ? print_json : print_text)(**model, chosen, load_time.count(), *measured);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto chosen = apps::bench::parse(argc, argv);
    if (!chosen) return fail(chosen.error() + "; see --help", exit_wrong_options);
    if (!chosen->help) return run(*chosen);
    fmt::print("{}", apps::bench::usage());
    return 0;
  } catch (const std::exception& problem) {
    return fail(problem.what(), exit_failed);
  }
}
