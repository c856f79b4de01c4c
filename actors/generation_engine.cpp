#include "actors/generation_engine.hpp"

#include "actors/engine_drill.hpp"
#include "engine/model_identity.hpp"
#include "engine/serving_memory.hpp"

#include <utility>

namespace bitnet::actors {

engine::result<std::unique_ptr<inference_engine>> create_generation_engine(
    std::shared_ptr<const engine::model> model, const engine::generation_options& options,
    engine_faults faults) {
  auto loop = engine::generation_loop::create(model, options);
  if (!loop) return tl::unexpected(std::move(loop).error());
  if (faults == engine_faults::none) return std::make_unique<generation_engine>(std::move(*loop));
  return std::make_unique<engine_drill>(std::move(*loop), std::move(model), faults);
}

inference_backend cpu_backend(bool faults) {
  inference_backend backend;
  backend.load_model = [](const std::filesystem::path& path, const engine::load_options& options) {
    return engine::load_model(path, options);
  };
  backend.check_room = engine::check_memory_to_serve;
  backend.create_engine = [faults](std::shared_ptr<const engine::model> model,
                                   const engine::generation_options& options, std::size_t) {
    return create_generation_engine(std::move(model), options,
                                    faults ? engine_faults::harmless : engine_faults::none);
  };
  backend.make_scrub = [](std::shared_ptr<const engine::model> model) -> weight_scrub {
    auto scrubber = std::make_shared<engine::weight_scrubber>(*model->weights);
    return [model = std::move(model), scrubber](std::size_t max_bytes) { return scrubber->step(max_bytes); };
  };
  return backend;
}

}  // namespace bitnet::actors
