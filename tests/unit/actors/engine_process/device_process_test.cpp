// Engines on a GPU, which is emulated, in processes of their own (actors/engine_process/loader.hpp).

#include "actors/engine_process/process_backend.hpp"
#include "actors/generation_engine.hpp"

#include <boost/test/unit_test.hpp>

#include <signal.h>

#include <chrono>
#include <thread>

using namespace bitnet;
using namespace bitnet::actors;

namespace {

engine::generation_options small_options() {
  engine::generation_options options;
  options.threads = 1;
  options.isa = kernels::best_instruction_set();
  options.max_sequences = 2;
  options.max_queued = 2;
  options.prefill_chunk = 8;
  return options;
}

std::vector<engine::token_id> generate(inference_engine& engine) {
  engine::generation_request request;
  request.id = 1;
  request.prompt = {1, 2, 3, 4};
  request.max_tokens = 4;
  request.sampling.temperature = 0;
  BOOST_REQUIRE(engine.submit(request));
  std::vector<engine::token_id> tokens;
  while (!engine.idle())
    for (const auto& event : engine.step())
      for (const auto& token : event.tokens) tokens.push_back(token.id);
  return tokens;
}

struct device_processes {
  inference_backend backend;
  std::shared_ptr<const engine::model> model;

  explicit device_processes(std::vector<std::string> devices) {
    process_backend_options options;
    options.worker_binary = EMULATED_WORKER;
    options.devices = std::move(devices);
    backend = process_backend(std::move(options));
    engine::load_options load;
    load.threads = 1;
    load.isa = kernels::best_instruction_set();
    load.decode = engine::decode_format::two_bit;
    load.progress = [](float) {};
    load.warn = [](const std::string&) {};
    auto loaded = backend.load_model("models/demo.gguf", load);
    BOOST_REQUIRE_MESSAGE(loaded, (loaded ? "" : loaded.error().message));
    model = *loaded;
  }

  engine::result<std::unique_ptr<inference_engine>> engine(std::size_t device = 0) const {
    return backend.create_engine(model, small_options(), device);
  }
  std::vector<pid_t> engine_pids() const {
    const auto processes = backend.processes();
    BOOST_REQUIRE(processes.size() == 1U);
    return processes[0].engines;
  }
};

void kill_and_wait(inference_engine& engine, pid_t process) {
  BOOST_REQUIRE(kill(process, SIGKILL) == 0);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!engine.lost() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  BOOST_TEST(engine.lost().has_value());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_processes_rules)

BOOST_AUTO_TEST_CASE(
    an_engine_on_a_device_is_replaced_after_its_process_was_killed_with_the_tokens_of_the_cpu) {
  const device_processes on_cpu({});
  const device_processes on_gpu({"cuda:0"});

  auto cpu = on_cpu.engine();
  BOOST_REQUIRE_MESSAGE(cpu, (cpu ? "" : cpu.error().message));
  const auto expected = generate(**cpu);
  const auto golden = (*cpu)->probe_hash();
  BOOST_REQUIRE(golden);

  auto first = on_gpu.engine();
  BOOST_REQUIRE_MESSAGE(first, (first ? "" : first.error().message));
  BOOST_TEST((generate(**first) == expected));

  BOOST_REQUIRE(on_gpu.engine_pids().size() == 1U);
  kill_and_wait(**first, on_gpu.engine_pids()[0]);
  first->reset();

  auto second = on_gpu.engine();
  BOOST_REQUIRE_MESSAGE(second, (second ? "" : second.error().message));
  BOOST_TEST((generate(**second) == expected));
  const auto again = (*second)->probe_hash();
  BOOST_REQUIRE(again);
  BOOST_TEST(*again == *golden);
}

BOOST_AUTO_TEST_CASE(two_devices_have_an_engine_each_of_one_loader_and_are_replaced_apart) {
  const device_processes both({"cuda:0", "cuda:1"});
  BOOST_TEST((both.backend.devices == std::vector<std::string>{"cuda:0", "cuda:1"}));
  auto first = both.engine(0);
  auto second = both.engine(1);
  BOOST_REQUIRE_MESSAGE(first, (first ? "" : first.error().message));
  BOOST_REQUIRE_MESSAGE(second, (second ? "" : second.error().message));
  const auto pids = both.engine_pids();
  BOOST_REQUIRE(pids.size() == 2U);
  BOOST_TEST(pids[0] != pids[1]);
  const auto tokens = generate(**first);
  BOOST_TEST((generate(**second) == tokens));

  kill_and_wait(**second, pids[1]);
  second->reset();
  BOOST_TEST((both.engine_pids() == std::vector<pid_t>{pids[0]}));
  auto next = both.engine(1);
  BOOST_REQUIRE_MESSAGE(next, (next ? "" : next.error().message));
  // The other one did not notice.
  BOOST_TEST(!(*first)->lost().has_value());
  BOOST_TEST(both.engine_pids().at(0) == pids[0]);
  BOOST_TEST((generate(**first) == tokens));
  BOOST_TEST((generate(**next) == tokens));
}

BOOST_AUTO_TEST_CASE(
    a_device_that_is_not_there_refuses_the_engine_with_a_sentence_and_leaves_the_loader_alone) {
  const device_processes absent({"cuda:7"});
  const auto refused = absent.engine();
  BOOST_REQUIRE(!refused);
  BOOST_TEST(refused.error().message.find("cuda:7 cannot be had any more") != std::string::npos);
  BOOST_TEST(!absent.backend.model_lost(*absent.model));
}

BOOST_AUTO_TEST_SUITE_END()
