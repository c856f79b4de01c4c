// The forward pass of a CUDA device against the CPU's, bit for bit: on an emulated device in every build, on
// a real one where there is one.

#include "engine/cuda/cuda_pass.hpp"

#include "engine/generation.hpp"
#include "engine/transformer.hpp"
#include "tests/unit/engine/generation_fixture.hpp"
#include "tests/unit/kernels/cuda/device_array.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <span>

namespace {

using namespace bitnet;
using engine::batch_chunk;
using engine::token_id;
using tests::needs_device;

constexpr engine::pass_limits limits{.rows = 160, .logits_rows = 160, .chunks = 4};
constexpr std::size_t blocks = 12;

std::shared_ptr<engine::compute_device> first_device(const engine::cuda::cuda_options& options = {}) {
  return engine::cuda::make_cuda_device(kernels::cuda::list_devices().devices.front(), options);
}

void check_candidates(std::span<const engine::candidate> got, std::span<const float> logits,
                      std::size_t wanted) {
  std::vector<token_id> order(logits.size());
  std::iota(order.begin(), order.end(), token_id{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
  BOOST_REQUIRE(got.size() == std::min(wanted, logits.size()));
  for (std::size_t i = 0; i < got.size(); ++i) {
    BOOST_TEST(got[i].id == order[i]);
    BOOST_TEST(got[i].logit == logits[order[i]]);
  }
}

/// The same passes on both; all logits must have the same bits.
struct both {
  explicit both(const engine::model& m, const engine::cuda::cuda_options& options = {})
      : model(m),
        host_cache(engine::kv_cache::create(m.config(), blocks).value()),
        device_cache(engine::kv_cache::create(m.config(), blocks, engine::kv_storage::device).value()),
        host(*m.weights, team, kernels::best_instruction_set(), limits),
        device(first_device(options)->create_pass(*m.weights, limits).value()) {
    BOOST_REQUIRE(device->take_kv_blocks(blocks).has_value());
  }

  void run(const std::vector<batch_chunk>& chunks) {
    BOOST_REQUIRE((host.forward(chunks, host_cache, progress) == engine::forward_status::complete));
    BOOST_REQUIRE((device->forward(chunks, device_cache, progress) == engine::forward_status::complete));
    std::size_t index = 0;
    for (std::size_t c = 0; c < chunks.size(); ++c) {
      BOOST_TEST(device->failed(c) == host.failed(c));
      for (std::size_t i = 0; i < chunks[c].logits; ++i, ++index) {
        const auto expected = host.logits(index);
        if (chunks[c].candidates != 0) {
          check_candidates(device->candidates(index), expected, chunks[c].candidates);
          continue;
        }
        BOOST_TEST(device->candidates(index).empty());
        const auto got = device->logits(index);
        BOOST_TEST(std::memcmp(got.data(), expected.data(), expected.size_bytes()) == 0,
                   "logits " << index << " differ, the first are " << got[0] << " and " << expected[0]);
      }
    }
  }

  const engine::model& model;
  kernels::team team{1};
  engine::kv_cache host_cache;
  engine::kv_cache device_cache;
  engine::transformer host;
  std::unique_ptr<engine::device_pass> device;
  engine::progress progress;
};

/// A prompt in two chunks, one of them beside another sequence's, then decode steps of both.
void check_mixed_passes(const engine::model_config& config, kernels::head_matrix::format head,
                        const engine::cuda::cuda_options& options = {}) {
  const auto model = tests::random_model(config, 3, head);
  both b(*model, options);
  const auto first = tests::prompt_of(90);
  const auto second = tests::prompt_of(33, 2);
  const auto tokens = [](const std::vector<token_id>& all, std::size_t at, std::size_t n) {
    return std::span(all).subspan(at, n);
  };
  const std::vector<engine::kv_block_id> first_blocks{7, 2};
  const std::vector<engine::kv_block_id> second_blocks{4};
  b.run({{tokens(first, 0, 60), 0, first_blocks, 1}});
  b.run({{tokens(first, 60, 26), 60, first_blocks, 2}, {tokens(second, 0, 30), 0, second_blocks, 30}});
  b.run({{tokens(first, 86, 1), 86, first_blocks, 1}, {tokens(second, 30, 1), 30, second_blocks, 1, 1}});
  b.run({{tokens(first, 87, 1), 87, first_blocks, 1}, {tokens(second, 31, 1), 31, second_blocks, 1, 40}});
  b.run({{tokens(first, 88, 1), 88, first_blocks, 1, 64}});
  b.run({{tokens(first, 89, 1), 89, first_blocks, 1, 1}});
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cuda_pass)

BOOST_AUTO_TEST_CASE(logits_have_the_bits_of_the_cpu, *needs_device()) {
  check_mixed_passes(tests::small_config(), kernels::head_matrix::format::int8);
}

BOOST_AUTO_TEST_CASE(logits_have_the_bits_of_the_cpu_with_the_other_operators, *needs_device()) {
  auto config = tests::small_config();
  config.activation = config.activation == engine::ffn_activation::silu ? engine::ffn_activation::squared_relu
                                                                        : engine::ffn_activation::silu;
  config.has_sub_norms = !config.has_sub_norms;
  config.rope =
      config.rope == kernels::rope_kind::neox ? kernels::rope_kind::interleaved : kernels::rope_kind::neox;
  check_mixed_passes(config, kernels::head_matrix::format::f16);
}

BOOST_AUTO_TEST_CASE(little_scratch_for_attention_changes_nothing, *needs_device()) {
  check_mixed_passes(tests::small_config(), kernels::head_matrix::format::int8, {.score_bytes = 1});
}

BOOST_AUTO_TEST_CASE(a_broken_sequence_fails_alone, *needs_device()) {
  auto model = tests::random_model(tests::small_config(), 3);
  both b(*model);
  const auto prompt = tests::prompt_of(8);
  const std::vector<engine::kv_block_id> first{0};
  const std::vector<engine::kv_block_id> second{1};
  // Weights that give NaN from the last norm on break every row, on both alike.
  b.run({{prompt, 0, first, 1}, {prompt, 0, second, 1, 1}});
  model->weights->output_norm[0] = std::numeric_limits<float>::quiet_NaN();
  both broken(*model);
  for (const std::size_t candidates : {1, 5}) {
    const std::vector<batch_chunk> chunks{{prompt, 0, first, 1, candidates}};
    broken.host.forward(chunks, broken.host_cache, broken.progress);
    broken.device->forward(chunks, broken.device_cache, broken.progress);
    BOOST_TEST(broken.host.failed(0));
    BOOST_TEST(broken.device->failed(0));
    BOOST_TEST(broken.device->candidates(0).empty());
    BOOST_TEST(std::isnan(broken.device->logits(0)[0]));
  }
}

BOOST_AUTO_TEST_CASE(a_cancelled_pass_says_so, *needs_device()) {
  const auto model = tests::random_model(tests::small_config(), 3);
  both b(*model);
  const auto prompt = tests::prompt_of(8);
  const std::vector<engine::kv_block_id> table{0};
  b.progress.cancel = true;
  const std::vector<batch_chunk> chunks{{prompt, 0, table, 1}};
  BOOST_TEST((b.device->forward(chunks, b.device_cache, b.progress) == engine::forward_status::cancelled));
  b.progress.cancel = false;
  b.run(chunks);
}

namespace {

/// Four prompts through the batching loop: one greedy, two drawn from all tokens, one from the best 20, so
/// that logits are fetched for some rows only.
tests::outcomes generate(std::shared_ptr<engine::compute_device> device, std::uint64_t& hash) {
  engine::generation_options options;
  options.device = std::move(device);
  options.max_sequences = 2;
  options.prefill_chunk = 24;
  options.kv_cache_bytes = 12 * engine::kv_cache_block_bytes(tests::small_config());
  const auto loop = tests::make_loop(options);
  hash = loop->probe_hash().value();
  BOOST_REQUIRE(loop->submit(tests::request_of(1, 30, 6)).has_value());
  BOOST_REQUIRE(loop->submit(tests::request_of(2, 7, 9, 0.9F)).has_value());
  BOOST_REQUIRE(loop->submit(tests::request_of(3, 40, 5, 0.7F)).has_value());
  auto best = tests::request_of(4, 12, 20, 1.5F);
  best.sampling.top_k = 20;
  best.sampling.top_p = 0.9F;
  BOOST_REQUIRE(loop->submit(best).has_value());
  return tests::run_until_idle(*loop);
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_batching_loop_gives_the_tokens_and_the_canary_of_the_cpu, *needs_device()) {
  std::uint64_t cpu_hash = 0;
  std::uint64_t device_hash = 1;
  const auto expected = generate(nullptr, cpu_hash);
  const auto got = generate(first_device(), device_hash);
  BOOST_TEST(device_hash == cpu_hash);
  for (const auto& [id, outcome] : expected) {
    BOOST_TEST(got.at(id).ids() == outcome.ids(), boost::test_tools::per_element());
    BOOST_TEST((got.at(id).finish == engine::finish_reason::length));
  }
}

BOOST_AUTO_TEST_SUITE_END()
