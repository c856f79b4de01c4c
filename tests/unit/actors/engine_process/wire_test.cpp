#include "actors/engine_process/wire.hpp"

#include <boost/test/unit_test.hpp>

#include <random>

using namespace bitnet;
using namespace bitnet::actors;

namespace {

engine::generation_request full_request() {
  engine::generation_request r;
  r.id = 0x1122334455667788;
  r.prompt = {1, 2, 4294967295U};
  r.emitted = {7};
  r.max_tokens = 99;
  r.sampling.temperature = 0.25F;
  r.sampling.top_k = 40;
  r.sampling.seed = 1234567890123456789;
  r.sampling.logit_bias = {{5, -100.0F}, {6, 0.5F}};
  r.stop_tokens = {2, 3};
  r.top_logprobs = 20;
  r.want_logprobs = true;
  r.json_schema = R"({"type": "object"})";
  r.priority = -3;
  r.client = 0xFFFFFFFFFFFFFFFF;
  return r;
}

event_batch full_batch() {
  event_batch b;
  b.submissions_seen = 12;
  b.idle = true;
  b.stats.running = 3;
  b.stats.generated_tokens = 1ULL << 40;
  b.stats.last_step_seconds = 0.125;
  engine::generation_event e;
  e.id = 9;
  e.tokens.push_back({100, -0.5F, {{100, -0.5F}, {101, -1.5F}}});
  e.finish = engine::finish_reason::failed;
  e.failure = engine::error{engine::error_code::out_of_kv_cache, "no room"};
  e.usage = {10, 20, 5};
  b.events.push_back(e);
  return b;
}

template <class T>
std::vector<std::byte> encoded(const T& value) {
  byte_writer out;
  write(out, value);
  return {out.bytes().begin(), out.bytes().end()};
}

/// Writing what was read gives the same bytes: nothing was lost.
template <class T>
void check_round_trip(const T& value) {
  const auto bytes = encoded(value);
  T copy{};
  BOOST_REQUIRE(decode(bytes, copy));
  BOOST_TEST((encoded(copy) == bytes));
}

template <class T>
void check_hostile(const T& value) {
  auto bytes = encoded(value);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    T copy{};
    BOOST_TEST(!decode(std::span(bytes).first(length), copy), "cut to " << length);
  }
  T copy{};
  bytes.push_back(std::byte{0});
  BOOST_TEST(!decode(bytes, copy), "a byte too many");
  bytes.pop_back();
  // Whatever the bytes say, reading them ends, and takes no more memory than they are worth.
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    auto changed = bytes;
    for (int i = 0; i < 4; ++i) changed[random() % changed.size()] = static_cast<std::byte>(random());
    T other{};
    decode(changed, other);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(wire_format)

BOOST_AUTO_TEST_CASE(every_message_survives_the_way) {
  check_round_trip(full_request());
  check_round_trip(full_batch());
  check_round_trip(load_command{"/models/a b.gguf",
                                {1, 2, 3, -4},
                                8,
                                kernels::head_matrix::format::f16,
                                true,
                                engine::decode_format::base3,
                                kernels::instruction_set::avx2});
  spawn_command spawn;
  spawn.options.threads = 3;
  spawn.options.decode_wait_seconds = 0.75;
  spawn.options.prefix_cache = false;
  spawn.device = "cuda:1";
  spawn.faults = true;
  spawn.scrub_bytes_per_second = 77;
  spawn.verify = true;
  check_round_trip(spawn);
  check_round_trip(corrupt_command{"output.weight", 5});
  check_round_trip(exit_report{4711, 9});
  check_round_trip(fault_request{"hang", {{"seconds", "3"}, {"how", "x"}}});
}

BOOST_AUTO_TEST_CASE(a_request_arrives_as_it_was_sent) {
  engine::generation_request copy;
  BOOST_REQUIRE(decode(encoded(full_request()), copy));
  const auto sent = full_request();
  BOOST_TEST(copy.id == sent.id);
  BOOST_TEST((copy.prompt == sent.prompt));
  BOOST_TEST((copy.emitted == sent.emitted));
  BOOST_TEST((copy.stop_tokens == sent.stop_tokens));
  BOOST_TEST(copy.sampling.seed == sent.sampling.seed);
  BOOST_TEST((copy.sampling.logit_bias == sent.sampling.logit_bias));
  BOOST_TEST(copy.want_logprobs);
  BOOST_TEST(copy.json_schema == sent.json_schema);
  BOOST_TEST(copy.priority == -3);
  BOOST_TEST(copy.client == sent.client);
}

BOOST_AUTO_TEST_CASE(bytes_that_are_cut_too_long_or_random_are_refused_or_harmless) {
  check_hostile(full_request());
  check_hostile(full_batch());
  check_hostile(load_command{"/models/a.gguf",
                             {1, 2, 3, 4},
                             8,
                             kernels::head_matrix::format::int8,
                             false,
                             engine::decode_format::two_bit,
                             kernels::instruction_set::scalar});
  check_hostile(spawn_command{});
  check_hostile(fault_request{"hang", {{"seconds", "3"}}});
}

BOOST_AUTO_TEST_CASE(a_count_beyond_the_bytes_that_are_there_is_refused_before_memory_is_taken) {
  byte_writer out;
  out.put(std::uint64_t{1});
  out.put(std::uint32_t{0xFFFFFFFF});  // "the prompt has four billion tokens"
  engine::generation_request request;
  BOOST_TEST(!decode(out.bytes(), request));
  BOOST_TEST(request.prompt.capacity() == 0U);
}

BOOST_AUTO_TEST_CASE(values_outside_an_enumeration_are_refused) {
  auto bytes = encoded(engine::error{engine::error_code::internal, "x"});
  engine::error copy{};
  BOOST_TEST(decode(bytes, copy));
  bytes[0] = std::byte{200};
  BOOST_TEST(!decode(bytes, copy));
}

BOOST_AUTO_TEST_SUITE_END()
