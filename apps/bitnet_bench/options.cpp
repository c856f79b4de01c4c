#include "apps/bitnet_bench/options.hpp"

#include <fmt/format.h>

#include <getopt.h>

#include <charconv>
#include <string_view>

namespace bitnet::apps::bench {

namespace {

enum class option_name : int {
  model = 1,
  prompt_tokens,
  generate_tokens,
  batch,
  threads,
  repetitions,
  prefill_chunk,
  kernels,
  head,
  decode_weights,
  device,
  logits,
  json,
  limits,
  profile,
  help,
};

option option_entry(const char* name, int has_argument, option_name id) {
  return {name, has_argument, nullptr, static_cast<int>(id)};
}

std::string kernel_names() {
  std::string names;
  for (const auto isa : kernels::supported_instruction_sets())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", kernels::to_string(isa));
  return names;
}

/// What is wrong with `text` as a whole number within the bounds; empty where nothing is.
template <class T>
std::string read_number(std::string_view name, std::string_view text, T least, T most, T& out) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (failure == std::errc() && end == text.data() + text.size() && out >= least && out <= most) return {};
  return fmt::format("--{}={}: expected a whole number from {} to {}", name, text, least, most);
}

/// Values of the options that take several, separated by commas.
struct sweep {
  std::vector<std::size_t> prompt_tokens{128};
  std::vector<std::size_t> generate_tokens{32};
  std::vector<std::size_t> batch{1};
  std::vector<std::size_t> threads{0};
};

std::string read_numbers(std::string_view name, std::string_view text, std::size_t least, std::size_t most,
                         std::vector<std::size_t>& out) {
  out.clear();
  for (;;) {
    const auto comma = std::min(text.find(','), text.size());
    std::size_t value = 0;
    if (auto problem = read_number(name, text.substr(0, comma), least, most, value); !problem.empty())
      return problem;
    out.push_back(value);
    if (comma == text.size()) return {};
    text.remove_prefix(comma + 1);
  }
}

std::string read_tokens(std::string_view text, std::vector<engine::token_id>& out) {
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    engine::token_id id = 0;
    if (auto problem =
            read_number<engine::token_id>("logits", text.substr(0, comma), 0, ~engine::token_id{0}, id);
        !problem.empty())
      return problem;
    out.push_back(id);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return out.empty() ? "--logits: expected token ids such as 1,2,3" : std::string();
}

std::string read_kernels(std::string_view text, kernels::instruction_set& out) {
  const auto isa = kernels::parse_instruction_set(text);
  if (!isa || !kernels::is_supported(*isa))
    return fmt::format("--kernels={}: this machine runs {}", text, kernel_names());
  out = *isa;
  return {};
}

std::string read_head(std::string_view text, options& out) {
  if (text != "int8" && text != "f16" && text != "screened")
    return fmt::format("--head={}: expected int8, f16 or screened", text);
  out.head = text == "f16" ? kernels::head_matrix::format::f16 : kernels::head_matrix::format::int8;
  out.screen_head = text == "screened";
  return {};
}

std::string read_decode_format(std::string_view text, engine::decode_format& out) {
  const auto format = engine::parse_decode_format(text);
  if (!format) return fmt::format("--decode-weights={}: expected auto, base3 or 2bit", text);
  out = *format;
  return {};
}

/// Applies one option; what is wrong with it, or nothing.
std::string apply(option_name name, std::string_view value, options& out, sweep& values) {
  constexpr std::size_t many = 1'000'000;
  switch (name) {
    case option_name::model:
      out.model = value;
      return {};
    case option_name::prompt_tokens:
      return read_numbers("prompt-tokens", value, 1, many, values.prompt_tokens);
    case option_name::generate_tokens:
      return read_numbers("generate-tokens", value, 1, many, values.generate_tokens);
    case option_name::batch:
      return read_numbers("batch", value, 1, 1024, values.batch);
    case option_name::threads:
      return read_numbers("threads", value, 0, 4096, values.threads);
    case option_name::repetitions:
      return read_number<std::size_t>("repetitions", value, 1, many, out.repetitions);
    case option_name::prefill_chunk:
      return read_number<std::size_t>("prefill-chunk", value, 1, 65536, out.prefill_chunk);
    case option_name::kernels:
      return read_kernels(value, out.kernels);
    case option_name::head:
      return read_head(value, out);
    case option_name::decode_weights:
      return read_decode_format(value, out.decode);
    case option_name::device:
      out.device = value;
      return {};
    case option_name::logits:
      return read_tokens(value, out.logits_of);
    case option_name::json:
      out.json = true;
      return {};
    case option_name::limits:
      out.limits = true;
      return {};
    case option_name::profile:
      out.profile = true;
      return {};
    case option_name::help:
      out.help = true;
      return {};
  }
  return "an option that nobody handles";
}

std::vector<options> combinations(const options& common, const sweep& values) {
  std::vector<options> all;
  for (const auto threads : values.threads)
    for (const auto batch : values.batch)
      for (const auto prompt : values.prompt_tokens)
        for (const auto generate : values.generate_tokens) {
          all.push_back(common);
          all.back().threads = threads;
          all.back().batch = batch;
          all.back().prompt_tokens = prompt;
          all.back().generate_tokens = generate;
        }
  return all;
}

}  // namespace

tl::expected<std::vector<options>, std::string> parse(int argc, char** argv) {
  const option known[] = {option_entry("model", required_argument, option_name::model),
                          option_entry("prompt-tokens", required_argument, option_name::prompt_tokens),
                          option_entry("generate-tokens", required_argument, option_name::generate_tokens),
                          option_entry("batch", required_argument, option_name::batch),
                          option_entry("threads", required_argument, option_name::threads),
                          option_entry("repetitions", required_argument, option_name::repetitions),
                          option_entry("prefill-chunk", required_argument, option_name::prefill_chunk),
                          option_entry("kernels", required_argument, option_name::kernels),
                          option_entry("device", required_argument, option_name::device),
                          option_entry("head", required_argument, option_name::head),
                          option_entry("decode-weights", required_argument, option_name::decode_weights),
                          option_entry("logits", required_argument, option_name::logits),
                          option_entry("json", no_argument, option_name::json),
                          option_entry("limits", no_argument, option_name::limits),
                          option_entry("profile", no_argument, option_name::profile),
                          option_entry("help", no_argument, option_name::help),
                          {nullptr, 0, nullptr, 0}};
  options out;
  sweep values;
  opterr = 0;
  optind = 1;
  for (;;) {
    // Set before the call: with an error, getopt has moved on to the next argument already.
    const auto at = optind;
    const auto found = getopt_long(argc, argv, "", known, nullptr);
    if (found == -1) break;
    if (found == '?')
      return tl::unexpected(fmt::format("{}: unknown option, missing value or needless value", argv[at]));
    if (auto problem = apply(static_cast<option_name>(found), optarg == nullptr ? "" : optarg, out, values);
        !problem.empty())
      return tl::unexpected(problem);
  }
  if (optind < argc) return tl::unexpected(fmt::format("{}: expected options only", argv[optind]));
  if (!out.help && out.model.empty()) return tl::unexpected(std::string("--model=FILE is missing"));
  return combinations(out, values);
}

std::string usage() {
  return fmt::format(R"(bitnet-bench --model=FILE [OPTION ...]

Measures how fast a model reads prompts and generates tokens, through the batching loop that the server uses.

  --model=FILE           GGUF file
  --prompt-tokens=N,...  length of a prompt (128)
  --generate-tokens=N,.. tokens to generate for each sequence (32)
  --batch=N,...          sequences that run together (1)
  --threads=N,...        0: as many as the CPUs and the model's size make sensible (0)
  --repetitions=N        of the whole measurement (3)
  --prefill-chunk=N      prompt tokens in a forward pass (256)
  --kernels=NAME         {} (the last)
  --device=NAME          cpu, auto, cuda or cuda:N; GPUs in builds with CUDA (cpu)
  --head=TYPE            int8, f16 or screened (int8)
  --decode-weights=TYPE  auto, base3 or 2bit: how weights lie in memory for few tokens (auto)
  --limits               measure what the machine can read and multiply before and after each measurement, and show
                         every figure as a share of it
  --profile              also show where the time of the forward passes goes
  --json                 print one JSON object; with several combinations {{"runs": [...]}}
  --logits=ID,ID,...     print the logits after each of these tokens as JSON, and measure nothing
  --help                 print this

Several values, separated by commas, are measured in all combinations. Shares of the limits count the weights and the
head that a step must read, and the multiply-adds of linear layers (and, where tokens are generated, of the head).

Exit status: 0 done, 1 the model cannot be loaded or run, 2 wrong options.
)",
                     kernel_names());
}

}  // namespace bitnet::apps::bench
