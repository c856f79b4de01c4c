#include "actors/inference_engine.hpp"
#include "actors/service.hpp"
#include "engine/model_identity.hpp"

#include <utility>

namespace bitnet::actors {

namespace {

/// engine::generation_loop behind the workers' interface.
class generation_engine final : public inference_engine {
 public:
  explicit generation_engine(std::unique_ptr<engine::generation_loop> loop) : loop_(std::move(loop)) {}

  engine::result<void> submit(engine::generation_request request) override {
    return loop_->submit(std::move(request));
  }
  void cancel(engine::request_id id) override { loop_->cancel(id); }
  std::vector<engine::generation_event> step() override { return loop_->step(); }
  bool idle() const noexcept override { return loop_->idle(); }
  engine::generation_stats stats() const noexcept override { return loop_->stats(); }
  engine::progress& progress() noexcept override { return loop_->progress(); }
  engine::result<std::uint64_t> probe_hash() override { return loop_->probe_hash(); }

 private:
  std::unique_ptr<engine::generation_loop> loop_;
};

}  // namespace

inference_backend cpu_backend() {
  inference_backend backend;
  backend.load_model = [](const std::filesystem::path& path, const engine::load_options& options) {
    return engine::load_model(path, options);
  };
  backend.create_engine =
      [](std::shared_ptr<const engine::model> model,
         const engine::generation_options& options) -> engine::result<std::unique_ptr<inference_engine>> {
    auto loop = engine::generation_loop::create(std::move(model), options);
    if (!loop) return tl::unexpected(std::move(loop).error());
    return std::make_unique<generation_engine>(std::move(*loop));
  };
  backend.make_scrub = [](std::shared_ptr<const engine::model> model) -> weight_scrub {
    auto scrubber = std::make_shared<engine::weight_scrubber>(*model->weights);
    return [model = std::move(model), scrubber](std::size_t max_bytes) { return scrubber->step(max_bytes); };
  };
  return backend;
}

tl::expected<std::unique_ptr<service>, std::string> service::start(service_options options) {
  return start(std::move(options), cpu_backend());
}

}  // namespace bitnet::actors
