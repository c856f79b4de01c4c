#include "actors/router.hpp"
#include "actors/service.hpp"
#include "actors/worker.hpp"
#include "tests/support/random_model.hpp"
#include "tests/unit/actors/virtual_time.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

// Real engines, a router, and workers that die: what clients get is what they would have got without, to the
// last bit.

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

/// An engine that throws at one of its steps, as after a bug.
class mortal_engine final : public inference_engine {
 public:
  mortal_engine(std::unique_ptr<inference_engine> engine, std::uint64_t steps)
      : engine_(std::move(engine)), steps_left_(steps) {}

  engine::result<void> submit(engine::generation_request request) override {
    return engine_->submit(std::move(request));
  }
  void cancel(engine::request_id id) override { engine_->cancel(id); }
  std::vector<engine::generation_event> step() override {
    if (steps_left_-- == 0) throw std::runtime_error("the engine broke");
    return engine_->step();
  }
  bool idle() const noexcept override { return engine_->idle(); }
  engine::generation_stats stats() const noexcept override { return engine_->stats(); }
  engine::progress& progress() noexcept override { return engine_->progress(); }
  engine::result<std::uint64_t> probe_hash() override { return engine_->probe_hash(); }

 private:
  std::unique_ptr<inference_engine> engine_;
  std::uint64_t steps_left_;
};

std::vector<engine::generation_request> requests() {
  std::vector<engine::generation_request> all;
  const auto vocabulary = small_config().vocabulary_size;
  for (engine::request_id id = 1; id <= 6; ++id) {
    engine::generation_request r;
    r.id = id;
    for (std::uint32_t i = 0; i < 5 + 7 * id; ++i)
      r.prompt.push_back(static_cast<engine::token_id>((i * 31 + id * 17 + 1) % vocabulary));
    r.max_tokens = 24;
    r.sampling.seed = 99 * id;
    r.sampling.temperature = id % 3 == 0 ? 0.0F : 0.9F;
    r.sampling.top_p = 0.95F;
    if (id % 2 == 0) r.sampling.repetition_penalty = 1.2F;
    if (id == 5) r.sampling.frequency_penalty = 0.4F;
    if (id == 4) {  // one that stops
      for (std::uint32_t t = 0; t < vocabulary; t += 9) r.stop_tokens.push_back(t);
    }
    r.want_logprobs = true;
    r.top_logprobs = 3;
    all.push_back(std::move(r));
  }
  return all;
}

/// Everything that a client sees, as text in which each bit counts.
std::string transcript(const std::vector<token_frame>& frames) {
  std::string text;
  for (const auto& f : frames) {
    for (const auto& t : f.tokens) {
      text += std::to_string(t.id) + ":" + std::to_string(std::bit_cast<std::uint32_t>(t.logprob));
      for (const auto& other : t.top)
        text += "," + std::to_string(other.id) + ":" +
                std::to_string(std::bit_cast<std::uint32_t>(other.logprob));
      text += " ";
    }
  }
  if (frames.empty()) return "nothing";
  const auto& last = frames.back();
  return text + "finish " + std::to_string(static_cast<int>(last.finish)) + " usage " +
         std::to_string(last.usage.prompt_tokens) + " " + std::to_string(last.usage.completion_tokens) + " " +
         std::to_string(last.usage.cached_tokens);
}

/// These workers die of nothing that a request did, over and over.
router_options patient() {
  router_options o;
  o.resume.quarantine_after = ~0U;
  return o;
}

/// Runs all requests on workers of which each lives for `lifetime` steps (the last for ever).
std::vector<std::string> transcripts(std::vector<std::uint64_t> lifetimes) {
  virtual_time v;
  const std::shared_ptr<const engine::model> model = random_model(small_config());
  const auto router_handle = v.system.spawn(router, patient());
  std::uint64_t incarnation = 0;
  std::vector<worker_actor> workers;
  const auto start_worker = [&](std::uint64_t lifetime) {
    worker_options o;
    o.model = model;
    o.generation.threads = 1;
    o.generation.max_sequences = 4;  // some wait
    o.generation.prefill_chunk = 16;
    o.backend = cpu_backend();
    o.backend.create_engine = [create = o.backend.create_engine, lifetime](
                                  std::shared_ptr<const engine::model> m, const engine::generation_options& g,
                                  std::size_t device) -> engine::result<std::unique_ptr<inference_engine>> {
      auto made = create(std::move(m), g, device);
      if (!made) return made;
      return std::make_unique<mortal_engine>(std::move(*made), lifetime);
    };
    o.board = std::make_shared<worker_board>(0, ++incarnation);
    const auto board = o.board;
    const auto& current = workers.emplace_back(v.system.spawn(worker, std::move(o)));
    caf::anon_send(router_handle, announce_atom_v, announced_worker{current, board, 100});
  };
  lifetimes.push_back(~std::uint64_t{0});
  start_worker(lifetimes.front());
  std::vector<std::pair<token_sink_actor, virtual_time::frame_log>> clients;
  for (auto& r : requests()) {
    clients.push_back(v.make_sink());
    v.system.spawn([&, r, sink = clients.back().first](caf::event_based_actor* self) {
      self->request(router_handle, 300s, submit_atom_v, std::uint64_t{0}, r, std::uint32_t{1}, sink)
          .then([](const submit_receipt&) {}, [](const caf::error& e) { BOOST_ERROR(describe(e).message); });
    });
  }
  for (std::size_t i = 1; i < lifetimes.size(); ++i) {
    v.settle();
    v.advance(200ms);
    start_worker(lifetimes[i]);
  }
  v.settle();
  v.advance(10s);
  std::vector<std::string> result;
  for (const auto& [sink, frames] : clients) {
    result.push_back(transcript(*frames));
    for (std::uint32_t i = 0; i < frames->size(); ++i) BOOST_TEST((*frames)[i].seq == i);
  }
  for (const auto& w : workers) v.kill(caf::actor_cast<caf::actor>(w));
  v.kill(caf::actor_cast<caf::actor>(router_handle));
  v.settle();
  return result;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(resume_exactness)

BOOST_AUTO_TEST_CASE(streams_over_dying_workers_are_bit_for_bit_those_of_an_undisturbed_one) {
  const auto undisturbed = transcripts({});
  BOOST_TEST(std::count_if(undisturbed.begin(), undisturbed.end(), [](const std::string& t) {
               return t.find("finish 2") != std::string::npos;
             }) >= 4);  // by length
  for (const auto& lifetimes : std::vector<std::vector<std::uint64_t>>{
           {9}, {13, 11}, {20, 17, 9}, {12, 12, 12, 12, 12}, {9, 10, 11, 12, 13, 14, 15, 16}}) {
    const auto disturbed = transcripts(lifetimes);
    for (std::size_t i = 0; i < undisturbed.size(); ++i)
      BOOST_TEST(disturbed[i] == undisturbed[i], "request " << i + 1 << " over " << lifetimes.size()
                                                            << " deaths\n"
                                                            << disturbed[i] << "\n"
                                                            << undisturbed[i]);
  }
}

BOOST_AUTO_TEST_SUITE_END()
