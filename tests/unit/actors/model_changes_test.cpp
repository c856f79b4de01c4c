#include "tests/unit/actors/supervisors_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

/// A server that serves tiny, whose tokens begin at 100, and may load other, whose tokens begin at 500.
struct changes_fixture : engine_fixture {
  fs::path directory = fs::temp_directory_path() / ("bitnet-model-changes-" + std::to_string(getpid()));
  std::shared_ptr<model_choice> choice = std::make_shared<model_choice>();
  std::shared_ptr<const served_model> served;
  bool allowed = true;

  changes_fixture() {
    fs::create_directories(directory);
    for (const auto* name : {"other.gguf", "third.gguf"}) std::ofstream(directory / name) << "GGUF";
    control->first_tokens["other"] = 500;
    choice->file = "/models/tiny.gguf";
    configure = [this](model_supervisor_options& o) {
      o.choice = choice;
      if (allowed) o.directories = *model_directories::open({directory.string()});
      o.on_served = [this](std::shared_ptr<const served_model> next) { served = std::move(next); };
    };
    // Streams wait for the next worker of their model.
    end(caf::actor_cast<caf::actor>(requests));
    requests = system.spawn(router, router_options{});
  }
  ~changes_fixture() {
    served = nullptr;
    fs::remove_all(directory);
  }

  void start() {
    engine_fixture::start();
    report_memory();
  }

  std::shared_ptr<outcome<loaded_model>> load(const std::string& name) {
    auto answer = std::make_shared<outcome<loaded_model>>();
    system.spawn([=, to = model](caf::event_based_actor* self) {
      self->request(to, std::chrono::minutes(60), load_atom_v, name)
          .then([=](const loaded_model& value) { answer->value = value; },
                [=](const caf::error& error) { answer->error = error; });
    });
    settle();
    return answer;
  }
  error_code refusal_of_load(const std::string& name) {
    const auto answer = load(name);
    return answer->value ? error_code::none : describe(answer->error).code;
  }
  outcome<std::string> unload(const std::string& name) {
    return request<std::string>(model, unload_atom_v, name);
  }

  /// A request of the model that serves now.
  std::vector<engine::token_id> tokens_of(const frame_log& frames) {
    std::vector<engine::token_id> ids;
    for (const auto& frame : *frames)
      for (const auto& token : frame.tokens) ids.push_back(token.id);
    return ids;
  }
  std::vector<engine::token_id> generate(const served_model& by, std::uint32_t count) {
    const auto [sink, frames] = make_sink();
    request<submit_receipt>(requests, submit_atom_v, by.slot, request_of(1, count), std::uint32_t{1}, sink);
    return tokens_of(frames);
  }

  std::string transitions() {
    std::string found;
    std::istringstream lines(get(probe::metrics));
    for (std::string line; std::getline(lines, line);)
      if (line.starts_with("bitnet_health_transitions_total")) found += line + '\n';
    return found;
  }
  bool noted(std::string_view code) {
    return get(probe::events).find("\"code\":\"" + std::string(code) + '"') != std::string::npos;
  }
  std::string model_message() { return component("model").message; }
};

std::vector<engine::token_id> counting(std::uint32_t from, std::uint32_t n) {
  std::vector<engine::token_id> ids;
  for (std::uint32_t i = 0; i < n; ++i) ids.push_back(from + i);
  return ids;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(model_changes, changes_fixture)

BOOST_AUTO_TEST_CASE(another_model_is_loaded_while_the_old_one_serves_and_then_serves_instead) {
  start();
  const auto before = transitions();
  control->load_progress = 0.4F;
  bool looked = false;
  control->during_load = [&] {
    looked = true;
    advance(1100ms);
    BOOST_TEST(model_message() == "tiny is loaded; other.gguf is being loaded, 40 %");
    BOOST_TEST(ok(probe::ready));
    BOOST_TEST((generate(*served, 3) == counting(100, 3)));
  };
  const auto answer = load("other.gguf");
  BOOST_TEST(looked);
  BOOST_REQUIRE(answer->value);
  BOOST_TEST(answer->value->model->id == "other");
  BOOST_TEST(served->model->id == "other");
  BOOST_TEST((generate(*served, 3) == counting(500, 3)));
  advance(1s);
  BOOST_TEST(ok(probe::ready), get(probe::health));
  BOOST_TEST(model_message() == "other is loaded");
  BOOST_TEST(noted("model_loaded"));
  BOOST_TEST(transitions() == before);
  BOOST_TEST((control->unloaded == std::vector<std::string>{"tiny"}));
  BOOST_TEST(control->destroyed == 1);
}

BOOST_AUTO_TEST_CASE(running_streams_finish_on_the_old_model_which_then_goes) {
  start();
  auto lease = served;
  bool swapped = false;
  control->during_step = [&] {
    if (std::exchange(swapped, true)) return;
    const auto answer = load("other.gguf");
    advance(1100ms);
    BOOST_TEST(answer->value.has_value());
    BOOST_TEST(served->slot == 1U);
    BOOST_TEST(model_message() == "other is loaded; tiny finishes its streams");
    BOOST_TEST(control->unloaded.empty());
    BOOST_TEST((refusal_of_load("third.gguf") == error_code::change_in_progress));
  };
  BOOST_TEST((generate(*lease, 20) == counting(100, 20)));
  BOOST_TEST(swapped);
  advance(5s);
  BOOST_TEST(control->unloaded.empty());  // somebody may still want something of it
  lease.reset();
  advance(1100ms);
  BOOST_TEST((control->unloaded == std::vector<std::string>{"tiny"}));
  BOOST_TEST(model_message() == "other is loaded");
  BOOST_TEST((refusal_of_load("third.gguf") == error_code::none));
}

BOOST_AUTO_TEST_CASE(a_stream_of_a_retiring_model_survives_its_worker_and_never_moves_to_the_other_model) {
  start();
  const auto lease = served;
  int steps = 0;
  control->during_step = [&] {
    ++steps;
    if (steps == 2) load("other.gguf");
    control->step_throws = steps == 5;
  };
  const auto [sink, frames] = make_sink();
  request<submit_receipt>(requests, submit_atom_v, lease->slot, request_of(1, 20), std::uint32_t{1}, sink);
  advance(2s);
  BOOST_TEST(served->slot == 1U);
  BOOST_TEST((tokens_of(frames) == counting(100, 20)));
  BOOST_TEST(control->created == 3);
}

BOOST_AUTO_TEST_CASE(a_load_that_fails_leaves_the_old_model_serving_and_is_told) {
  start();
  const auto before = transitions();
  control->during_load = [&] { control->load_fails = true; };
  control->load_error = {engine::error_code::file_malformed, "other.gguf is cut off"};
  const auto answer = load("other.gguf");
  BOOST_TEST((describe(answer->error).code == error_code::file_malformed));
  BOOST_TEST(describe(answer->error).message == "other.gguf is cut off");
  advance(1100ms);
  BOOST_TEST(model_message() == "tiny is loaded");
  BOOST_TEST(noted("model_load_failed"));
  BOOST_TEST((generate(*served, 3) == counting(100, 3)));
  BOOST_TEST(transitions() == before);
}

BOOST_AUTO_TEST_CASE(a_model_whose_engine_cannot_be_built_is_given_up) {
  start();
  control->during_load = [&] { control->create_fails = true; };
  const auto answer = load("other.gguf");
  BOOST_TEST(describe(answer->error).message == "the engine did not start: The KV cache does not fit.");
  BOOST_TEST((control->unloaded == std::vector<std::string>{"other"}));
  advance(1100ms);
  BOOST_TEST(model_message() == "tiny is loaded");
  BOOST_TEST((generate(*served, 3) == counting(100, 3)));
}

BOOST_AUTO_TEST_CASE(a_model_whose_engine_dies_at_once_is_given_up_without_another_try) {
  start();
  control->broken_model = "other";
  const auto answer = load("other.gguf");
  BOOST_TEST((describe(answer->error).code == error_code::internal));
  BOOST_TEST(describe(answer->error).message.find("its engine ended at once") == 0U);
  advance(10s);
  BOOST_TEST(control->created == 1);
  BOOST_TEST(ok(probe::ready));
  control->broken_model.clear();
  BOOST_TEST((refusal_of_load("other.gguf") == error_code::none));
}

BOOST_AUTO_TEST_CASE(a_model_with_a_failing_canary_never_serves) {
  start();
  control->during_load = [&] { control->probe_fails = true; };
  const auto answer = load("other.gguf");
  control->probe_fails = false;
  BOOST_TEST((describe(answer->error).code == error_code::internal));
  BOOST_TEST(served->model->id == "tiny");
}

BOOST_AUTO_TEST_CASE(one_load_at_a_time) {
  start();
  error_code second = error_code::none;
  error_code removal = error_code::none;
  control->during_load = [&] {
    second = refusal_of_load("third.gguf");
    removal = describe(unload("tiny").error).code;
  };
  load("other.gguf");
  BOOST_TEST((second == error_code::change_in_progress));
  BOOST_TEST((removal == error_code::change_in_progress));
  BOOST_TEST(control->loads == 2);
}

BOOST_AUTO_TEST_CASE(only_files_of_allowed_directories_are_loaded) {
  start();
  BOOST_TEST((refusal_of_load("missing.gguf") == error_code::file_not_found));
  BOOST_TEST((refusal_of_load("/proc/self/exe") == error_code::path_not_allowed));
  BOOST_TEST((refusal_of_load("../passwd") == error_code::path_not_allowed));
  BOOST_TEST(control->loads == 1);
}

BOOST_AUTO_TEST_CASE(without_directories_nothing_can_be_changed) {
  allowed = false;
  start();
  BOOST_TEST((refusal_of_load("other.gguf") == error_code::models_fixed));
  BOOST_TEST((describe(unload("tiny").error).code == error_code::models_fixed));
  BOOST_TEST(served->model->id == "tiny");
}

BOOST_AUTO_TEST_CASE(a_model_for_which_there_is_no_memory_is_not_loaded_at_all) {
  check_room = [](const fs::path&, const engine::load_options&, const engine::generation_options&) {
    return engine::fail(engine::error_code::out_of_memory, "needs 9 MiB, 8 MiB are available");
  };
  start();
  const auto answer = load("other.gguf");
  BOOST_TEST((describe(answer->error).code == error_code::out_of_memory));
  BOOST_TEST(control->loads == 1);
}

BOOST_AUTO_TEST_CASE(an_unloaded_model_takes_readiness_and_not_liveness_until_another_is_loaded) {
  start();
  advance(6s);
  auto lease = served;
  BOOST_TEST((describe(unload("other").error).code == error_code::model_not_found));
  BOOST_TEST(unload("tiny").value.value() == "tiny");
  BOOST_TEST(!served);
  settle();
  BOOST_TEST(!ok(probe::ready));
  BOOST_TEST(ok(probe::live));
  BOOST_TEST(component("model").code == "no_model");
  BOOST_TEST(noted("model_unloaded"));
  BOOST_TEST((describe(unload("tiny").error).code == error_code::model_not_found));
  BOOST_TEST((generate(*lease, 3) == counting(100, 3)));  // was tokenised before
  lease.reset();
  advance(60s);
  BOOST_TEST((control->unloaded == std::vector<std::string>{"tiny"}));
  BOOST_TEST(control->loads == 1);
  BOOST_TEST(model_message().find("tiny was unloaded on request") == 0U);
  BOOST_TEST((refusal_of_load("other.gguf") == error_code::none));
  advance(1s);
  BOOST_TEST(ok(probe::ready), get(probe::health));
  BOOST_TEST((generate(*served, 3) == counting(500, 3)));
}

BOOST_AUTO_TEST_CASE(a_model_that_could_not_be_loaded_again_is_replaced_on_request) {
  start();
  control->lost = {"tiny"};
  control->load_fails = true;
  advance(1100ms);
  BOOST_TEST(component("model").code == "load_failed");
  control->load_fails = false;
  BOOST_TEST((refusal_of_load("other.gguf") == error_code::none));
  advance(1100ms);
  BOOST_TEST(ok(probe::ready), get(probe::health));
  BOOST_TEST(served->model->id == "other");
}

BOOST_AUTO_TEST_CASE(a_model_whose_process_is_lost_while_another_is_loaded_is_not_waited_for) {
  start();
  int loads = 0;
  control->during_load = [&] {
    if (++loads > 1) return;  // of the one that was lost
    control->lost = {"tiny"};
    advance(1100ms);
    BOOST_TEST(!ok(probe::ready));
    control->lost.clear();
  };
  BOOST_TEST((refusal_of_load("other.gguf") == error_code::none));
  advance(1100ms);
  BOOST_TEST(served->model->id == "other");
  BOOST_TEST(ok(probe::ready), get(probe::health));
}

BOOST_AUTO_TEST_CASE(a_restarted_supervisor_serves_what_was_loaded_last) {
  start();
  load("other.gguf");
  end(caf::actor_cast<caf::actor>(engine));
  end(caf::actor_cast<caf::actor>(model));
  start();
  BOOST_TEST(served->model->id == "other");
  BOOST_TEST(served->slot == 1U);
  unload("other");
  end(caf::actor_cast<caf::actor>(engine));
  end(caf::actor_cast<caf::actor>(model));
  start();
  BOOST_TEST(!served);
  BOOST_TEST(component("model").code == "no_model");
}

BOOST_AUTO_TEST_CASE(a_supervisor_that_ends_cancels_its_load_and_answers) {
  start();
  std::shared_ptr<outcome<loaded_model>> answer;
  bool cancelled = false;
  control->during_load = [&] {
    end(caf::actor_cast<caf::actor>(model), caf::exit_reason::user_shutdown);
    cancelled = control->load_cancelled->load();
  };
  answer = load("other.gguf");
  BOOST_TEST(cancelled);
  BOOST_TEST((describe(answer->error).code == error_code::draining));
}

BOOST_AUTO_TEST_CASE(a_server_that_drains_gives_up_its_load_and_begins_no_other) {
  start();
  bool cancelled = false;
  control->during_load = [&] {
    caf::anon_send(model, drain_atom_v);
    settle();
    cancelled = control->load_cancelled->load();
    control->load_fails = true;
  };
  BOOST_TEST((refusal_of_load("other.gguf") == error_code::draining));
  BOOST_TEST(cancelled);
  control->during_load = nullptr;
  control->load_fails = false;
  BOOST_TEST((refusal_of_load("other.gguf") == error_code::draining));
  caf::anon_send(model, undrain_atom_v);
  BOOST_TEST((refusal_of_load("other.gguf") == error_code::none));
}

BOOST_AUTO_TEST_CASE(a_model_whose_process_dies_ends_its_last_streams_and_goes) {
  start();
  auto lease = served;
  load("other.gguf");
  control->lost = {"tiny"};
  advance(1100ms);
  BOOST_TEST(model_message() == "other is loaded");
  const auto [sink, frames] = make_sink();
  const auto late =
      request<submit_receipt>(requests, submit_atom_v, lease->slot, request_of(1, 3), std::uint32_t{1}, sink);
  BOOST_TEST((describe(late.error).code == error_code::no_worker));
  BOOST_TEST((control->unloaded == std::vector<std::string>{"tiny"}));
  BOOST_TEST((generate(*served, 3) == counting(500, 3)));
}

BOOST_AUTO_TEST_SUITE_END()
