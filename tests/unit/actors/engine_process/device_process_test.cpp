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

  explicit device_processes(const std::string& device) {
    process_backend_options options;
    options.worker_binary = EMULATED_WORKER;
    options.device = device;
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

  engine::result<std::unique_ptr<inference_engine>> engine() const {
    return backend.create_engine(model, small_options());
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(device_processes_rules)

BOOST_AUTO_TEST_CASE(
    an_engine_on_a_device_is_replaced_after_its_process_was_killed_with_the_tokens_of_the_cpu) {
  const device_processes on_cpu("");
  const device_processes on_gpu("cuda:0");

  auto cpu = on_cpu.engine();
  BOOST_REQUIRE_MESSAGE(cpu, (cpu ? "" : cpu.error().message));
  const auto expected = generate(**cpu);
  const auto golden = (*cpu)->probe_hash();
  BOOST_REQUIRE(golden);

  auto first = on_gpu.engine();
  BOOST_REQUIRE_MESSAGE(first, (first ? "" : first.error().message));
  BOOST_TEST((generate(**first) == expected));

  const auto processes = on_gpu.backend.processes();
  BOOST_REQUIRE(processes.size() == 1U);
  BOOST_REQUIRE(kill(processes[0].engine, SIGKILL) == 0);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!(*first)->lost() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  BOOST_TEST((*first)->lost().has_value());
  first->reset();

  auto second = on_gpu.engine();
  BOOST_REQUIRE_MESSAGE(second, (second ? "" : second.error().message));
  BOOST_TEST((generate(**second) == expected));
  const auto again = (*second)->probe_hash();
  BOOST_REQUIRE(again);
  BOOST_TEST(*again == *golden);
}

BOOST_AUTO_TEST_CASE(
    a_device_that_is_not_there_refuses_the_engine_with_a_sentence_and_leaves_the_loader_alone) {
  const device_processes absent("cuda:7");
  const auto refused = absent.engine();
  BOOST_REQUIRE(!refused);
  BOOST_TEST(refused.error().message.find("cuda:7 cannot be had any more") != std::string::npos);
  BOOST_TEST(!absent.backend.model_lost(*absent.model));
}

BOOST_AUTO_TEST_SUITE_END()
