#pragma once

#include "actors/inference_engine.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace bitnet::tests {

/// What the fakes do, and what was done to them. One thread at a time.
struct fake_control {
  // Model.
  bool load_fails = false;
  engine::error load_error{engine::error_code::file_not_found, "no such file"};
  float load_progress = 1;
  std::function<void()> during_load;
  int loads = 0;
  std::optional<std::string> corrupted;  ///< what scrubbing finds
  std::set<std::string> lost;            ///< models whose process has ended
  std::vector<std::string> unloaded;
  const std::atomic<bool>* load_cancelled = nullptr;  ///< of the last load

  // Engine.
  bool create_fails = false;
  bool dies_at_start = false;
  std::set<std::size_t> dead_devices;                 ///< no engine can be created there
  std::map<std::size_t, std::uint64_t> hashes;        ///< by device; else `hash`
  std::map<std::size_t, int> submitted_to;            ///< accepted, by device
  std::string broken_model;                           ///< create_engine throws for this one
  std::map<std::string, std::uint32_t> first_tokens;  ///< by model; else 100
  std::size_t max_running = 2;
  std::size_t max_queued = 2;
  std::uint64_t hash = 0x1234;
  bool probe_fails = false;
  bool computation_fails = false;
  bool step_throws = false;
  bool delivers = true;  ///< false: steps that yield nothing
  std::function<void()> during_step;
  int created = 0;
  int destroyed = 0;
  int probes = 0;
  int submitted = 0;  ///< accepted
  std::vector<engine::request_id> cancelled;
  std::uint32_t longest_running = 0;  ///< max_tokens, of the sequences in the step
};

/// Generates the tokens 100, 101, ... for each sequence, one a step. A model may begin elsewhere.
class fake_engine final : public actors::inference_engine {
 public:
  explicit fake_engine(std::shared_ptr<fake_control> control, std::uint32_t first_token = 100,
                       std::size_t device = 0)
      : control_(std::move(control)), first_token_(first_token), device_(device) {
    ++control_->created;
  }
  ~fake_engine() override { ++control_->destroyed; }

  engine::result<void> submit(engine::generation_request request) override {
    if (request.prompt.empty())
      return engine::fail(engine::error_code::invalid_request, "The prompt is empty.");
    if (running_.size() >= control_->max_running && queued_.size() >= control_->max_queued)
      return engine::fail(engine::error_code::queue_full, "The queue is full.");
    stats_.prompt_tokens += request.prompt.size();
    queued_.push_back({request.id, static_cast<std::uint32_t>(request.prompt.size()), request.max_tokens,
                       static_cast<std::uint32_t>(request.emitted.size())});
    ++control_->submitted;
    ++control_->submitted_to[device_];
    admit();
    return {};
  }

  void cancel(engine::request_id id) override {
    control_->cancelled.push_back(id);
    for (auto* list : {&running_, &queued_}) {
      const auto removed = std::erase_if(*list, [id](const sequence& s) { return s.id == id; });
      if (removed == 0) continue;
      engine::generation_event event;
      event.id = id;
      event.finish = engine::finish_reason::cancelled;
      pending_.push_back(std::move(event));
    }
  }

  std::vector<engine::generation_event> step() override {
    control_->longest_running = 0;
    for (const auto& s : running_)
      control_->longest_running = std::max(control_->longest_running, s.max_tokens);
    if (control_->during_step) control_->during_step();
    if (control_->step_throws) throw std::runtime_error("the engine broke");
    auto events = std::exchange(pending_, {});
    ++stats_.steps;
    if (control_->delivers)
      for (auto& s : running_) events.push_back(advance(s));
    std::erase_if(running_, [](const sequence& s) { return s.ended; });
    admit();
    return events;
  }

  bool idle() const noexcept override { return running_.empty() && queued_.empty() && pending_.empty(); }

  engine::generation_stats stats() const noexcept override {
    auto s = stats_;
    s.running = running_.size();
    s.queued = queued_.size();
    s.kv_blocks_total = 8;
    s.kv_blocks_used = running_.size();
    return s;
  }

  engine::progress& progress() noexcept override { return progress_; }

  engine::result<std::uint64_t> probe_hash() override {
    ++control_->probes;
    if (control_->probe_fails) return engine::fail(engine::error_code::internal, "NaN logits");
    const auto own = control_->hashes.find(device_);
    return own == control_->hashes.end() ? control_->hash : own->second;
  }

 private:
  struct sequence {
    engine::request_id id;
    std::uint32_t prompt;
    std::uint32_t max_tokens;
    std::uint32_t generated;
    bool ended = false;
  };

  void admit() {
    while (running_.size() < control_->max_running && !queued_.empty()) {
      running_.push_back(queued_.front());
      queued_.pop_front();
    }
  }

  engine::generation_event advance(sequence& s) {
    engine::generation_event event;
    event.id = s.id;
    if (control_->computation_fails) {
      s.ended = true;
      event.finish = engine::finish_reason::failed;
      event.failure = engine::error{engine::error_code::internal, "NaN logits"};
      ++stats_.failed_sequences;
      return event;
    }
    event.tokens.push_back({first_token_ + s.generated, 0.0F, {}});
    ++s.generated;
    ++stats_.generated_tokens;
    s.ended = s.generated >= s.max_tokens;
    event.finish = s.ended ? engine::finish_reason::length : engine::finish_reason::none;
    event.usage = {s.prompt, s.generated, 0};
    return event;
  }

  std::shared_ptr<fake_control> control_;
  std::uint32_t first_token_;
  std::size_t device_;
  engine::progress progress_;
  engine::generation_stats stats_;
  std::deque<sequence> running_;
  std::deque<sequence> queued_;
  std::vector<engine::generation_event> pending_;
};

inline actors::inference_backend fake_backend(std::shared_ptr<fake_control> control) {
  actors::inference_backend backend;
  backend.load_model =
      [control](const std::filesystem::path& path,
                const engine::load_options& options) -> engine::result<std::shared_ptr<const engine::model>> {
    ++control->loads;
    control->load_cancelled = options.cancelled;
    options.progress(control->load_progress);
    if (control->during_load) control->during_load();
    if (control->load_fails) return tl::unexpected(control->load_error);
    auto model = std::make_shared<engine::model>();
    model->id = path.stem().string();
    model->path = path;
    return model;
  };
  backend.create_engine =
      [control](std::shared_ptr<const engine::model> model, const engine::generation_options&,
                std::size_t device) -> engine::result<std::unique_ptr<actors::inference_engine>> {
    if (control->dead_devices.contains(device))
      return engine::fail(engine::error_code::internal, "the device fell off the bus");
    if (control->dies_at_start)
      return engine::fail(engine::error_code::internal, "the engine process 7 was killed by signal 11");
    if (control->create_fails)
      return engine::fail(engine::error_code::out_of_memory, "The KV cache does not fit.");
    if (!control->broken_model.empty() && model->id == control->broken_model)
      throw std::runtime_error("the engine broke");
    const auto first = control->first_tokens.find(model->id);
    return std::make_unique<fake_engine>(control, first == control->first_tokens.end() ? 100 : first->second,
                                         device);
  };
  backend.model_lost = [control](const engine::model& model) -> std::optional<std::string> {
    if (!control->lost.contains(model.id)) return std::nullopt;
    return "its process ended";
  };
  backend.unload = [control](const engine::model& model) { control->unloaded.push_back(model.id); };
  backend.make_scrub = [control](std::shared_ptr<const engine::model>) -> actors::weight_scrub {
    return [control](std::size_t) { return control->corrupted; };
  };
  return backend;
}

}  // namespace bitnet::tests
