#include "engine/kv_cache.hpp"

#include "tests/support/random_model.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>
#include <numeric>
#include <set>

namespace {

using namespace bitnet;
using engine::kv_block_id;
using engine::kv_cache;
using engine::token_id;

kv_cache make_cache(std::size_t blocks) {
  return kv_cache::create(tests::small_config(), blocks).value();
}

std::vector<token_id> block_of(token_id first) {
  std::vector<token_id> tokens(kernels::kv_block_tokens);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(kv_cache)

BOOST_AUTO_TEST_CASE(blocks_are_given_out_once_and_come_back) {
  auto cache = make_cache(4);
  std::set<kv_block_id> seen;
  for (int i = 0; i < 4; ++i) seen.insert(cache.allocate().value());
  BOOST_TEST(seen.size() == 4U);
  BOOST_TEST(cache.used_blocks() == 4U);
  BOOST_TEST(!cache.allocate().has_value());
  cache.release(2);
  BOOST_TEST(cache.free_blocks() == 1U);
  BOOST_TEST(cache.allocate().value() == 2U);
  cache.retain(3);
  cache.release(3);
  BOOST_TEST(cache.used_blocks() == 4U);
  for (const auto block : seen) cache.release(block);
  BOOST_TEST(cache.used_blocks() == 0U);
}

BOOST_AUTO_TEST_CASE(blocks_and_layers_do_not_overlap) {
  auto cache = make_cache(3);
  const auto bytes =
      kernels::kv_block_bytes(tests::small_config().kv_head_count, tests::small_config().head_dim);
  const auto layers = tests::small_config().block_count;
  for (kv_block_id block = 0; block < 3; ++block) {
    for (std::size_t layer = 0; layer < layers; ++layer)
      std::memset(cache.data(block, layer), static_cast<int>(block * layers + layer + 1), bytes);
  }
  for (kv_block_id block = 0; block < 3; ++block) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const auto* data = cache.data(block, layer);
      BOOST_TEST(std::to_integer<std::size_t>(data[0]) == block * layers + layer + 1);
      BOOST_TEST(std::to_integer<std::size_t>(data[bytes - 1]) == block * layers + layer + 1);
    }
  }
  BOOST_TEST(bytes * layers == engine::kv_cache_block_bytes(tests::small_config()));
}

BOOST_AUTO_TEST_CASE(a_published_prefix_is_found_while_and_after_it_is_used) {
  auto cache = make_cache(4);
  const auto a = *cache.allocate();
  const auto b = *cache.allocate();
  const auto prefix_a = cache.publish(a, 0, block_of(5));
  const auto prefix_b = cache.publish(b, prefix_a, block_of(9));
  BOOST_TEST(prefix_a != prefix_b);
  const auto hit = cache.find(0, block_of(5));
  BOOST_REQUIRE(hit.has_value());
  BOOST_TEST(hit->first == a);
  BOOST_TEST(hit->second == prefix_a);
  cache.release(a);
  cache.release(b);
  cache.release(a);
  BOOST_TEST(cache.used_blocks() == 0U);
  BOOST_TEST(cache.cached_blocks() == 2U);
  BOOST_TEST(cache.find(prefix_a, block_of(9)).value().first == b);
  BOOST_TEST(cache.used_blocks() == 1U);
}

BOOST_AUTO_TEST_CASE(equal_tokens_after_another_prefix_are_another_prefix) {
  auto cache = make_cache(4);
  const auto a = *cache.allocate();
  const auto prefix = cache.publish(a, 0, block_of(5));
  BOOST_TEST(!cache.find(prefix, block_of(5)).has_value());
  BOOST_TEST(!cache.find(0, block_of(6)).has_value());
  auto almost = block_of(5);
  almost.back() += 1;
  BOOST_TEST(!cache.find(0, almost).has_value());
}

BOOST_AUTO_TEST_CASE(a_prefix_published_twice_keeps_the_first_block) {
  auto cache = make_cache(4);
  const auto a = *cache.allocate();
  const auto b = *cache.allocate();
  const auto prefix = cache.publish(a, 0, block_of(5));
  BOOST_TEST(cache.publish(b, 0, block_of(5)) == prefix);
  BOOST_TEST(cache.cached_blocks() == 1U);
  cache.release(b);
  BOOST_TEST(cache.allocate().value() == b);  // not in the cache, so it goes first
  BOOST_TEST(cache.find(0, block_of(5)).value().first == a);
}

BOOST_AUTO_TEST_CASE(the_least_recently_used_prefix_goes_first) {
  auto cache = make_cache(3);
  std::vector<kv_block_id> blocks;
  for (token_id i = 0; i < 3; ++i) {
    blocks.push_back(*cache.allocate());
    cache.publish(blocks.back(), 0, block_of(100 * i));
  }
  for (const auto i : {1, 0, 2}) cache.release(blocks[static_cast<std::size_t>(i)]);
  BOOST_TEST(cache.find(0, block_of(100)).value().first == blocks[1]);  // used again: now the youngest
  cache.release(blocks[1]);
  BOOST_TEST(cache.allocate().value() == blocks[0]);
  BOOST_TEST(!cache.find(0, block_of(0)).has_value());
  BOOST_TEST(cache.allocate().value() == blocks[2]);
  BOOST_TEST(cache.allocate().value() == blocks[1]);
  BOOST_TEST(cache.cached_blocks() == 0U);
}

BOOST_AUTO_TEST_CASE(a_name_is_not_reused_after_its_block_is_gone) {
  auto cache = make_cache(1);
  const auto a = *cache.allocate();
  const auto old_name = cache.publish(a, 0, block_of(5));
  cache.release(a);
  BOOST_REQUIRE(cache.allocate().has_value());
  BOOST_TEST(cache.publish(a, 0, block_of(6)) != old_name);
}

BOOST_AUTO_TEST_CASE(forgotten_blocks_are_not_found) {
  auto cache = make_cache(2);
  const auto a = *cache.allocate();
  cache.publish(a, 0, block_of(5));
  cache.forget(a);
  BOOST_TEST(!cache.find(0, block_of(5)).has_value());
  cache.forget(a);
  cache.release(a);
  BOOST_TEST(cache.free_blocks() == 2U);
}

BOOST_AUTO_TEST_CASE(the_plan_is_what_is_needed_and_affordable) {
  const auto config = tests::small_config();
  const auto block = engine::kv_cache_block_bytes(config);
  BOOST_TEST(engine::kv_blocks_per_context(config) == 8U);
  BOOST_TEST(engine::plan_kv_blocks(config, 4, 0, 1000 * block, 1).value() == 33U);
  BOOST_TEST(engine::plan_kv_blocks(config, 4, 0, 40 * block, 1).value() == 20U);
  BOOST_TEST(engine::plan_kv_blocks(config, 4, 50 * block, 40 * block, 1).value() == 50U);
  const auto refused = engine::plan_kv_blocks(config, 4, 0, 17 * block, 1);
  BOOST_REQUIRE(!refused.has_value());
  BOOST_TEST((refused.error().code == engine::error_code::out_of_memory));
  BOOST_TEST(refused.error().message.find("512 tokens") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_cache_that_no_machine_can_hold_is_refused) {
  const auto cache = engine::kv_cache::create(tests::small_config(), std::size_t{1} << 33U);
  BOOST_REQUIRE(!cache.has_value());
  BOOST_TEST((cache.error().code == engine::error_code::out_of_memory));
}

BOOST_AUTO_TEST_SUITE_END()
