#pragma once

#include "actors/cpu_wait.hpp"
#include "actors/inference_engine.hpp"

#include <memory>

namespace bitnet::actors {

/// engine::generation_loop behind the workers' interface.
class generation_engine : public inference_engine {
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
  /// Of all threads of this process, which are more than the engine's where it shares it with a server.
  std::chrono::nanoseconds cpu_wait() const noexcept override { return threads_cpu_wait(); }
  engine::result<std::uint64_t> probe_hash() override { return loop_->probe_hash(); }

 protected:
  engine::generation_loop& loop() noexcept { return *loop_; }

 private:
  std::unique_ptr<engine::generation_loop> loop_;
};

/// Which faults an engine causes when it is told to.
enum class engine_faults : std::uint8_t {
  none,
  harmless,  ///< those that leave the process alive: the engine shares it with a server
  all,       ///< the process is the engine's own
};

/// Builds a loop and the engine around it. Blocks while it allocates.
engine::result<std::unique_ptr<inference_engine>> create_generation_engine(
    std::shared_ptr<const engine::model> model, const engine::generation_options& options,
    engine_faults faults);

}  // namespace bitnet::actors
