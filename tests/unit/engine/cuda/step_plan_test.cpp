#include "engine/cuda/step_plan.hpp"

#include "tests/support/random_model.hpp"

#include <boost/test/unit_test.hpp>

#include <set>
#include <tuple>
#include <vector>

namespace {

using namespace bitnet;
using engine::batch_chunk;
using namespace engine::cuda;
using kernels::cuda::attention_tile;
using kernels::cuda::tile_size;

engine::model_config config_of(std::uint32_t heads, std::uint32_t kv_heads, std::uint32_t context) {
  auto config = tests::small_config();
  config.head_count = heads;
  config.kv_head_count = kv_heads;
  config.context_length = context;
  return config;
}

/// A pass described for a buffer with sentinels behind it.
struct described {
  described(const engine::model_config& config, const engine::pass_limits& limits,
            const std::vector<batch_chunk>& chunks)
      : layout(config, limits),
        words(layout.words + 4, -77),
        shape(describe_step(chunks, config, layout, words.data())) {
    for (std::size_t i = layout.words; i < words.size(); ++i) BOOST_TEST(words[i] == -77);
    BOOST_TEST(shape.tiles <= layout.most_tiles);
    BOOST_TEST(shape.used_words <= layout.words);
  }
  attention_tile tile(std::size_t i) const {
    return reinterpret_cast<const attention_tile*>(words.data() + layout.tiles)[i];
  }

  step_layout layout;
  std::vector<std::int32_t> words;
  step_shape shape;
};

const std::vector<engine::token_id> tokens(300, 5);
const std::vector<engine::kv_block_id> table{9, 8, 7, 6, 5, 4, 3, 2};

batch_chunk chunk_of(std::size_t count, std::size_t position, std::size_t logits) {
  return {std::span(tokens).first(count), position, table, logits};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cuda_step_plan)

BOOST_AUTO_TEST_CASE(tiles_cover_every_query_and_head_once) {
  for (const auto& [heads, kv_heads] : {std::pair{8U, 2U}, std::pair{6U, 1U}, std::pair{3U, 3U}}) {
    const auto config = config_of(heads, kv_heads, 512);
    const described d(config, {.rows = 64, .logits_rows = 4, .chunks = 4},
                      {chunk_of(19, 40, 1), chunk_of(1, 100, 1), chunk_of(33, 0, 0)});
    BOOST_TEST((d.shape.tile == tile_size::prefill));
    std::set<std::tuple<int, int>> covered;  // row of the pass, head
    const int group = static_cast<int>(heads / kv_heads);
    for (std::size_t t = 0; t < d.shape.tiles; ++t) {
      const auto tile = d.tile(t);
      BOOST_TEST(tile.count >= 1);
      BOOST_TEST(tile.count <= 16);
      for (int i = 0; i < tile.count; ++i) {
        const int row = tile.row + (tile.first + i) / group;
        BOOST_TEST(covered.insert({row, tile.kv_head * group + (tile.first + i) % group}).second);
        BOOST_TEST(d.words[d.layout.chunks + static_cast<std::size_t>(row)] == tile.chunk);
        BOOST_TEST(d.words[d.layout.positions + static_cast<std::size_t>(row)] ==
                   tile.position + (tile.first + i) / group);
      }
    }
    BOOST_TEST(covered.size() == 53U * heads);
  }
}

BOOST_AUTO_TEST_CASE(rows_that_want_logits_are_listed_in_order) {
  const described d(config_of(8, 2, 512), {.rows = 64, .logits_rows = 8, .chunks = 3},
                    {chunk_of(5, 0, 2), chunk_of(3, 10, 0), chunk_of(1, 4, 1)});
  BOOST_TEST(d.shape.rows == 9U);
  BOOST_TEST(d.shape.logits_rows == 3U);
  const auto* const rows = d.words.data() + d.layout.logits_rows;
  BOOST_TEST((std::vector<int>(rows, rows + 3) == std::vector<int>{3, 4, 8}));
  BOOST_TEST(!d.shape.decodes);
}

BOOST_AUTO_TEST_CASE(block_tables_name_what_the_chunk_reads) {
  const described d(config_of(8, 2, 512), {.rows = 64, .logits_rows = 2, .chunks = 2},
                    {chunk_of(1, 64, 1), chunk_of(1, 127, 1)});
  BOOST_TEST(d.layout.table_stride == 8U);
  for (std::size_t c = 0; c < 2; ++c) {
    BOOST_TEST(d.words[d.layout.table + c * 8] == 9);
    BOOST_TEST(d.words[d.layout.table + c * 8 + 1] == 8);
  }
  BOOST_TEST(d.shape.most_blocks == 2U);
  BOOST_TEST(d.shape.decodes);
  BOOST_TEST((d.shape.tile == tile_size::decode));
}

BOOST_AUTO_TEST_CASE(shapes_of_decode_steps_change_with_powers_of_two_only) {
  const engine::pass_limits limits{.rows = 4, .logits_rows = 4, .chunks = 4};
  const auto config = config_of(8, 2, 512);
  const auto shape_at = [&](std::size_t position) {
    return described(config, limits, {chunk_of(1, position, 1)}).shape;
  };
  BOOST_TEST((shape_at(128) == shape_at(255)));  // 3 and 4 blocks
  BOOST_TEST(shape_at(63).most_blocks == 1U);
  BOOST_TEST(shape_at(64).most_blocks == 2U);
  BOOST_TEST(shape_at(300).most_blocks == 8U);
  // Never more than a context has.
  const std::vector<engine::kv_block_id> five{0, 1, 2, 3, 4};
  const std::vector<batch_chunk> last{{std::span(tokens).first(1), 319, five, 1}};
  BOOST_TEST(described(config_of(8, 2, 320), limits, last).shape.most_blocks == 5U);
}

BOOST_AUTO_TEST_CASE(the_buffer_holds_the_largest_passes) {
  for (const auto& [heads, kv_heads] : {std::pair{8U, 2U}, std::pair{6U, 1U}, std::pair{3U, 3U}}) {
    const auto config = config_of(heads, kv_heads, 512);
    const engine::pass_limits limits{.rows = 40, .logits_rows = 8, .chunks = 8};
    described(config, limits, std::vector<batch_chunk>(8, chunk_of(5, 0, 1)));
    described(config, limits, std::vector<batch_chunk>(8, chunk_of(1, 0, 1)));
    described(config, limits, {chunk_of(40, 0, 1)});
    described(config, limits, {chunk_of(33, 0, 1), chunk_of(1, 0, 1), chunk_of(1, 0, 1), chunk_of(1, 0, 1)});
  }
}

BOOST_AUTO_TEST_CASE(launches_stay_within_their_scratch_and_the_grid) {
  step_shape shape;
  shape.tile = tile_size::prefill;
  shape.most_blocks = 2;
  BOOST_TEST(tiles_per_launch(shape, 16 * 128 * 5 + 1) == 5U);
  BOOST_TEST(tiles_per_launch(shape, 0) == 1U);
  BOOST_TEST(tiles_per_launch(shape, std::size_t{1} << 40) == 65535U);
  BOOST_TEST(least_scratch_floats(config_of(8, 2, 300)) == 16U * 5 * 64);
}

BOOST_AUTO_TEST_SUITE_END()
