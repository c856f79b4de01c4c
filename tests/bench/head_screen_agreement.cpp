// How often a screened head keeps what the int8 head finds most likely, and what its steps cost.
//   head_screen_agreement --model=FILE      along texts that the model itself writes
//   head_screen_agreement --synthetic       a head of 128256 x 2560 made to be difficult
// Prints a table: of how many queries the most likely token, and all of the 40 most likely ones, are among
// 64, 256 and 1024 candidates.

#include "engine/generation.hpp"
#include "engine/head_screening.hpp"
#include "engine/model.hpp"
#include "engine/transformer.hpp"
#include "kernels/head_screen.hpp"
#include "kernels/team.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace bitnet;
using kernels::head_matrix;
using kernels::head_screen;

constexpr std::size_t candidate_counts[] = {64, 256, 1024};
constexpr std::size_t top_count = 40;
kernels::instruction_set isa() {
  return kernels::best_instruction_set();
}

/// The ids of the greatest logits, the greatest first; of equals the smaller id.
std::vector<std::uint32_t> greatest(std::span<const float> logits, std::size_t count) {
  std::vector<std::uint32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0U);
  count = std::min(count, ids.size());
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count), ids.end(),
                    [&](std::uint32_t a, std::uint32_t b) {
                      return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
                    });
  ids.resize(count);
  return ids;
}

/// What became of many queries.
class tally {
 public:
  /// `candidates` in rising order.
  void add(std::span<const std::uint32_t> top, std::span<const std::uint32_t> candidates) {
    const auto inside = [&](std::uint32_t id) {
      return std::binary_search(candidates.begin(), candidates.end(), id);
    };
    const auto kept = static_cast<std::size_t>(std::count_if(top.begin(), top.end(), inside));
    ++queries_;
    first_ += inside(top.front()) ? 1 : 0;
    all_ += kept == top.size() ? 1 : 0;
    kept_ += kept;
    wanted_ += top.size();
  }
  void print(const std::string& name, std::size_t candidates) const {
    std::printf("| %s | %zu | %zu | %zu (%.3f %%) | %zu (%.3f %%) | %.4f %% |\n", name.c_str(), candidates,
                queries_, first_, percent(first_, queries_), all_, percent(all_, queries_),
                percent(kept_, wanted_));
  }
  static void print_head() {
    std::printf(
        "| queries | candidates | number | most likely kept | all of the top %zu kept | of the top %zu kept "
        "|\n",
        top_count, top_count);
    std::printf("|---|---|---|---|---|---|\n");
  }

 private:
  static double percent(std::size_t part, std::size_t whole) {
    return 100.0 * static_cast<double>(part) / static_cast<double>(std::max<std::size_t>(whole, 1));
  }
  std::size_t queries_ = 0;
  std::size_t first_ = 0;
  std::size_t all_ = 0;
  std::size_t kept_ = 0;
  std::size_t wanted_ = 0;
};

// Texts of a model
// -------------------------------------------------------------------------------------------------

std::shared_ptr<const engine::model> load(const std::string& path, std::size_t candidates) {
  engine::load_options options;
  options.screen_head = true;
  options.screen_candidates = candidates;
  options.decode = engine::decode_format::two_bit;
  auto model = engine::load_model(path, options);
  if (!model) {
    std::fprintf(stderr, "head_screen_agreement: %s\n", model.error().message.c_str());
    std::exit(1);
  }
  return *model;
}

/// What the model writes, sampled from all its logits, after some beginnings; each as long as its context
/// allows.
std::vector<std::vector<engine::token_id>> write_texts(const std::shared_ptr<const engine::model>& model) {
  constexpr std::size_t longest = 512;
  const auto& config = model->config();
  auto loop = engine::generation_loop::create(model, {}).value();
  std::vector<std::vector<engine::token_id>> texts;
  const char* const beginnings[] = {"Once upon a time", "The", "What is", "I",
                                    "In the morning",   "\n",  "A fox",   "You can"};
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    for (const char* beginning : beginnings) {
      engine::generation_request request;
      request.id = texts.size() + 1;
      if (const auto bos = model->tokens->bos()) request.prompt.push_back(*bos);
      for (const auto token : model->tokens->encode(beginning, false)) request.prompt.push_back(token);
      request.stop_tokens = model->tokens->stop_tokens();
      request.max_tokens =
          static_cast<std::uint32_t>(std::min<std::size_t>(longest, config.context_length)) - 32;
      request.sampling.seed = seed;
      texts.push_back(request.prompt);
      if (auto submitted = loop->submit(std::move(request)); !submitted) std::exit(1);
    }
  }
  while (!loop->idle())
    for (auto& event : loop->step())
      for (const auto& token : event.tokens) texts[event.id - 1].push_back(token.id);
  return texts;
}

/// Calls visit(forward, i) for each token of each text, after a pass that computed it.
void read_texts(const engine::model& model, const std::vector<std::vector<engine::token_id>>& texts,
                std::size_t candidates, const std::function<void(engine::transformer&, std::size_t)>& visit) {
  std::size_t longest = 0;
  for (const auto& text : texts) longest = std::max(longest, text.size());
  kernels::team team;
  auto cache = engine::kv_cache::create(model.config(), longest / kernels::kv_block_tokens + 1).value();
  std::vector<engine::kv_block_id> blocks;
  while (const auto block = cache.allocate()) blocks.push_back(*block);
  engine::transformer forward(*model.weights, team, isa(),
                              {.rows = longest, .logits_rows = longest, .chunks = 1});
  engine::progress progress;
  for (const auto& text : texts) {
    const engine::batch_chunk chunk{
        .tokens = text, .position = 0, .blocks = blocks, .logits = text.size(), .candidates = candidates};
    forward.forward({&chunk, 1}, cache, progress);
    for (std::size_t i = 0; i < text.size(); ++i) visit(forward, i);
  }
}

void measure_model(const std::string& path) {
  const auto texts = write_texts(load(path, 1024));
  std::vector<std::vector<std::uint32_t>> tops;
  tally::print_head();
  for (const auto count : candidate_counts) {
    const auto model = load(path, count);
    if (tops.empty()) {
      read_texts(*model, texts, 0, [&](engine::transformer& forward, std::size_t i) {
        tops.push_back(greatest(forward.logits(i), top_count));
      });
    }
    tally found;
    std::size_t query = 0;
    read_texts(*model, texts, count, [&](engine::transformer& forward, std::size_t i) {
      std::vector<std::uint32_t> ids;
      for (const auto& candidate : forward.candidates(i)) ids.push_back(candidate.id);
      std::ranges::sort(ids);
      found.add(tops[query++], ids);
    });
    found.print(model->id, count);
  }
}

// A difficult head
// -------------------------------------------------------------------------------------------------

constexpr std::size_t rows = 128256;
constexpr std::size_t cols = 2560;
constexpr std::size_t outliers = 8;

/// Numbers that depend on a seed and a place alone.
class random_source {
 public:
  explicit random_source(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 1) {}
  double uniform() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<double>(state_ >> 11) * 0x1p-53;
  }
  /// About normal: the sum of four uniform variables.
  double normal() { return (uniform() + uniform() + uniform() + uniform() - 2.0) * std::sqrt(3.0); }

 private:
  std::uint64_t state_;
};

/// How hard a head and its hidden vectors are on a screen.
struct difficulty {
  const char* name;
  double wide_share;  ///< of the weights that have `wide` times the deviation: heavy tails
  double wide;
  float column_outlier;   ///< factor of the deviation of the outlier columns
  float channel_outlier;  ///< size of the outlier channels of a hidden vector, in deviations of the others
};
constexpr difficulty difficulties[] = {
    {"outlier channels", 0.0, 1.0, 1.0F, 30.0F},
    {"outlier channels and columns", 0.0, 1.0, 5.0F, 30.0F},
    {"outlier channels, heavy tails", 0.05, 3.0, 1.0F, 30.0F},
    {"outlier channels and columns, heavy tails", 0.05, 3.0, 5.0F, 30.0F},
};

double with_tails(random_source& random, const difficulty& d) {
  const bool wide = random.uniform() < d.wide_share;
  return random.normal() * (wide ? d.wide : 1.0);
}

/// Columns of very different means and deviations, a few of them outliers; rows of different lengths.
struct synthetic_head {
  difficulty kind;
  std::vector<float> means;
  std::vector<float> deviations;
  explicit synthetic_head(const difficulty& d) : kind(d), means(cols), deviations(cols) {
    random_source random(1);
    for (std::size_t c = 0; c < cols; ++c) {
      deviations[c] = static_cast<float>(std::exp(0.7 * random.normal()));
      if (c % (cols / outliers) == 17) deviations[c] *= d.column_outlier;
      means[c] = static_cast<float>(random.normal()) * deviations[c];
    }
  }
  void block(std::size_t index, std::vector<float>& values) const {
    random_source random(index + 2);
    for (std::size_t r = 0; r < head_matrix::block_rows(); ++r) {
      const double length = std::exp(0.25 * random.normal());
      for (std::size_t c = 0; c < cols; ++c)
        values[r * cols + c] =
            means[c] + deviations[c] * static_cast<float>(length * with_tails(random, kind));
    }
  }
};

/// A hidden vector with outlier channels, half of them where the head has outlier columns. `towards`: it also
/// points to a row, as those of confident models do.
std::vector<float> hidden_vector(const synthetic_head& head, std::uint64_t seed, bool towards) {
  random_source random(seed + 1'000'000);
  std::vector<float> x(cols);
  for (std::size_t c = 0; c < cols; ++c) {
    x[c] = static_cast<float>(with_tails(random, head.kind));
    if (c % (cols / outliers) == (c < cols / 2 ? 17U : 99U))
      x[c] += random.uniform() < 0.5 ? -head.kind.channel_outlier : head.kind.channel_outlier;
  }
  if (!towards) return x;
  std::vector<float> values(head_matrix::block_rows() * cols);
  head.block(static_cast<std::size_t>(random.uniform() * static_cast<double>(rows / 32)), values);
  for (std::size_t c = 0; c < cols; ++c) x[c] += 0.15F * (values[c] - head.means[c]) / head.deviations[c];
  return x;
}

class stopwatch {
 public:
  double milliseconds() {
    const auto now = std::chrono::steady_clock::now();
    return 1e3 * std::chrono::duration<double>(now - std::exchange(start_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure_synthetic(const difficulty& kind, std::size_t queries) {
  const synthetic_head values(kind);
  head_matrix head(rows, cols, head_matrix::format::int8);
  kernels::team team;
  team.run([&](kernels::team_member& member) {
    std::vector<float> block(head_matrix::block_rows() * cols);
    const auto mine = member.share(head.block_count());
    for (auto b = mine.first; b < mine.last; ++b) {
      values.block(b, block);
      head.pack_block(b, block.data());
    }
  });
  stopwatch watch;
  const auto screen = engine::make_head_screen(head, 0);
  const double folding_ms = watch.milliseconds();

  const auto& matmul = kernels::matmul_kernels_for(isa());
  const auto& table = kernels::head_screen_kernels_for(isa());
  kernels::quantized_activations x;
  kernels::quantized_activations folded;
  x.resize(1, cols);
  folded.resize(1, cols);
  std::vector<float> logits(rows);
  std::vector<std::int32_t> scores(rows);
  std::vector<std::int32_t> maxima(head.block_count());
  kernels::candidate_selector selector(rows);
  std::vector<std::uint32_t> ids;
  std::vector<double> full_ms;
  std::vector<double> screen_ms;
  std::vector<double> select_ms;
  std::vector<double> rescore_ms;
  std::size_t wrong_logits = 0;
  for (const bool towards : {false, true}) {
    tally found[std::size(candidate_counts)];
    for (std::size_t n = 0; n < queries; ++n) {
      auto hidden = hidden_vector(values, n, towards);
      matmul.quantize_row(hidden.data(), x, 0);
      for (std::size_t c = 0; c < cols; ++c) hidden[c] = static_cast<float>(x.at(0, c)) * screen.factors()[c];
      matmul.quantize_row(hidden.data(), folded, 0);
      watch.milliseconds();
      team.run([&](kernels::team_member& member) {
        matmul.head_int8(head, x, logits.data(), rows, member.share(head.block_count()));
      });
      full_ms.push_back(watch.milliseconds());
      const auto top = greatest(logits, top_count);
      watch.milliseconds();
      team.run([&](kernels::team_member& member) {
        const auto blocks = member.share(head.block_count());
        table.scores(screen, folded, {scores.data(), rows, maxima.data(), maxima.size()}, blocks);
      });
      screen_ms.push_back(watch.milliseconds());
      for (std::size_t i = 0; i < std::size(candidate_counts); ++i) {
        ids.resize(candidate_counts[i]);
        watch.milliseconds();
        selector.select(scores, maxima, ids);
        const auto taken = watch.milliseconds();
        if (candidate_counts[i] == 1024) select_ms.push_back(taken);
        found[i].add(top, ids);
      }
      std::vector<float> again(ids.size());
      watch.milliseconds();
      team.run([&](kernels::team_member& member) {
        const auto mine = member.share(ids.size());
        table.rescore(screen, head.row_scales(), x, 0, ids.data() + mine.first, mine.last - mine.first,
                      again.data() + mine.first);
      });
      rescore_ms.push_back(watch.milliseconds());
      for (std::size_t i = 0; i < ids.size(); ++i) wrong_logits += again[i] != logits[ids[i]] ? 1 : 0;
    }
    for (std::size_t i = 0; i < std::size(candidate_counts); ++i)
      found[i].print(std::string(kind.name) + (towards ? ", towards a row" : ""), candidate_counts[i]);
  }
  std::printf(
      "\nMedians, %zu threads: int8 head %.2f ms, screen %.2f ms, choice of 1024 %.3f ms (one thread), their "
      "logits %.2f ms; %zu logits differed from the int8 head's. Folding took %.0f ms.\n",
      team.size(), median(full_ms), median(screen_ms), median(select_ms), median(rescore_ms), wrong_logits,
      folding_ms);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string option = argc > 1 ? argv[1] : "";
  if (option.starts_with("--model=")) {
    measure_model(option.substr(std::strlen("--model=")));
  } else if (option == "--synthetic") {
    tally::print_head();
    for (const auto& kind : difficulties) measure_synthetic(kind, argc > 2 ? std::stoul(argv[2]) : 200);
  } else {
    std::fprintf(stderr, "head_screen_agreement --model=FILE | --synthetic [QUERIES]\n");
    return 2;
  }
  return 0;
}
