#include "apps/bitnet_bench/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>

namespace bitnet::apps::bench {

namespace {

namespace json = boost::json;

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

/// Bytes and multiply-adds a second that a rate in tokens amounts to.
struct work {
  double bytes_per_second;
  double macs_per_second;
};

work generate_work(const run_report& run, double tokens_per_second) {
  const auto& weights = *run.model.weights;
  const auto batch = static_cast<double>(run.chosen.batch);
  const double macs = static_cast<double>(weights.linear_macs_per_token()) +
                      static_cast<double>(weights.head.rows() * weights.head.cols());
  return {static_cast<double>(weights.bytes_read_per_step(run.chosen.batch)) * tokens_per_second / batch,
          macs * tokens_per_second};
}

double prompt_macs(const run_report& run, double tokens_per_second) {
  return static_cast<double>(run.model.weights->linear_macs_per_token()) * tokens_per_second;
}

const char* head_of(const engine::model_weights& weights) {
  if (weights.screen) return "screened";
  return weights.head.storage_format() == kernels::head_matrix::format::f16 ? "f16" : "int8";
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

template <class Out>
void write_profile(Out out, const char* name, const engine::forward_profile& profile) {
  const auto passes = static_cast<double>(std::max<std::uint64_t>(profile.passes, 1));
  fmt::format_to(out, "\n{}: {} passes, {:.3f} ms each\n", name, profile.passes,
                 1e3 * total(profile) / passes);
  for (std::size_t i = 0; i < engine::operation_count; ++i) {
    fmt::format_to(out, "  {:<20}{:>10.3f} ms{:>7.1f} %\n",
                   engine::to_string(static_cast<engine::operation>(i)), 1e3 * profile.seconds[i] / passes,
                   100 * profile.seconds[i] / std::max(total(profile), 1e-12));
  }
}

}  // namespace

json::object to_json(const run_report& run) {
  const auto& chosen = run.chosen;
  const auto& m = run.measured;
  const auto prompt_rate = summarise(m.prompt_rates).median;
  const auto done = generate_work(run, summarise(m.generate_rates).median);
  json::object prompt = rates_to_json(m.prompt_rates);
  json::object generate = rates_to_json(m.generate_rates);
  generate["bytes_per_step"] = run.model.weights->bytes_read_per_step(chosen.batch);
  generate["gigabytes_per_second"] = done.bytes_per_second * 1e-9;
  json::object report{
      {"model",
       {{"id", run.model.id}, {"name", run.model.config().name}, {"file_bytes", run.model.file_bytes}}},
      {"kernels", kernels::to_string(chosen.kernels)},
      {"head", head_of(*run.model.weights)},
      {"decode_weights", run.model.weights->decode_blocks.empty() ? "2bit" : "base3"},
      {"threads", engine::thread_count(*run.model.weights, chosen.threads)},
      {"batch", chosen.batch},
      {"prompt_tokens", chosen.prompt_tokens},
      {"generate_tokens", chosen.generate_tokens},
      {"prefill_chunk", chosen.prefill_chunk},
      {"repetitions", chosen.repetitions},
      {"load_seconds", run.load_seconds}};
  if (run.limits) {
    const auto& l = *run.limits;
    report["limits"] = {{"gigabytes_per_second", l.read_bytes_per_second * 1e-9},
                        {"tera_macs_per_second", l.macs_per_second * 1e-12}};
    generate["share_of_bandwidth"] = done.bytes_per_second / l.read_bytes_per_second;
    if (l.macs_per_second > 0) {
      generate["share_of_macs"] = done.macs_per_second / l.macs_per_second;
      prompt["share_of_macs"] = prompt_macs(run, prompt_rate) / l.macs_per_second;
    }
  }
  report["prompt"] = std::move(prompt);
  report["generate"] = std::move(generate);
  if (chosen.profile) {
    report["profile"] = {{"prompt", profile_to_json(m.prompt_profile)},
                         {"generate", profile_to_json(m.generate_profile)}};
  }
  return report;
}

std::string to_text(const run_report& run) {
  const auto& chosen = run.chosen;
  const auto prompt = summarise(run.measured.prompt_rates);
  const auto generate = summarise(run.measured.generate_rates);
  const auto done = generate_work(run, generate.median);
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(
      out,
      "{} ({}), {} kernels, {} head, {} weights for few tokens, {} threads, batch {}, loaded in {:.2f} s\n",
      run.model.id, run.model.config().name, kernels::to_string(chosen.kernels), head_of(*run.model.weights),
      run.model.weights->decode_blocks.empty() ? "2-bit" : "base-3",
      engine::thread_count(*run.model.weights, chosen.threads), chosen.batch, run.load_seconds);
  fmt::format_to(out, "pp {:<6} {:>10.2f} tokens/s   ({:.2f} to {:.2f}), {:.2f} TMAC/s\n",
                 chosen.prompt_tokens, prompt.median, prompt.least, prompt.most,
                 prompt_macs(run, prompt.median) * 1e-12);
  fmt::format_to(
      out, "tg {:<6} {:>10.2f} tokens/s   ({:.2f} to {:.2f}), {:.1f} MB a step, {:.2f} GB/s, {:.2f} TMAC/s\n",
      chosen.generate_tokens, generate.median, generate.least, generate.most,
      static_cast<double>(run.model.weights->bytes_read_per_step(chosen.batch)) * 1e-6,
      done.bytes_per_second * 1e-9, done.macs_per_second * 1e-12);
  if (run.limits) {
    const auto& l = *run.limits;
    fmt::format_to(out, "limits: {:.2f} GB/s read (tg {:.2f} of it)", l.read_bytes_per_second * 1e-9,
                   done.bytes_per_second / l.read_bytes_per_second);
    if (l.macs_per_second > 0)
      fmt::format_to(out, ", {:.2f} TMAC/s (pp {:.2f}, tg {:.2f} of it)", l.macs_per_second * 1e-12,
                     prompt_macs(run, prompt.median) / l.macs_per_second,
                     done.macs_per_second / l.macs_per_second);
    fmt::format_to(out, "\n");
  }
  if (chosen.profile) {
    write_profile(out, "Prompt", run.measured.prompt_profile);
    write_profile(out, "Generate", run.measured.generate_profile);
  }
  return text;
}

}  // namespace bitnet::apps::bench
