#include "actors/device_backend.hpp"

#include <type_traits>
#include <utility>

namespace bitnet::actors {

namespace {

/// An engine that notes when it loses its device.
class device_engine final : public inference_engine {
 public:
  device_engine(std::unique_ptr<inference_engine> engine, std::shared_ptr<device_loss> loss)
      : engine_(std::move(engine)), loss_(std::move(loss)) {}

  engine::result<void> submit(engine::generation_request request) override {
    return engine_->submit(std::move(request));
  }
  void cancel(engine::request_id id) override { engine_->cancel(id); }
  std::vector<engine::generation_event> step() override {
    return watched([this] { return engine_->step(); });
  }
  bool idle() const noexcept override { return engine_->idle(); }
  engine::generation_stats stats() const noexcept override { return engine_->stats(); }
  engine::progress& progress() noexcept override { return engine_->progress(); }
  fault_outcome cause_fault(const fault_request& fault) override { return engine_->cause_fault(fault); }
  engine::result<std::uint64_t> probe_hash() override {
    return watched([this] { return engine_->probe_hash(); });
  }

 private:
  template <class F>
  std::invoke_result_t<F> watched(F call) {
    try {
      return call();
    } catch (const engine::device_lost& problem) {
      loss_->set(problem.what());
      throw;
    }
  }

  std::unique_ptr<inference_engine> engine_;
  std::shared_ptr<device_loss> loss_;
};

}  // namespace

void device_loss::set(std::string why) {
  const std::lock_guard lock(mutex_);
  if (!why_) why_ = std::move(why);
}

std::optional<std::string> device_loss::why() const {
  const std::lock_guard lock(mutex_);
  return why_;
}

inference_backend on_devices(inference_backend backend, std::vector<engine_device> devices) {
  backend.check_room = nullptr;  // the KV cache is the device's
  for (const auto& one : devices) backend.devices.push_back(one.name);
  backend.create_engine = [create = std::move(backend.create_engine), devices = std::move(devices)](
                              std::shared_ptr<const engine::model> model,
                              const engine::generation_options& options,
                              std::size_t device) -> engine::result<std::unique_ptr<inference_engine>> {
    const auto& on = devices.at(device);
    if (auto why = on.loss->why()) return engine::fail(engine::error_code::internal, std::move(*why));
    auto chosen = options;
    chosen.device = on.device;
    auto created = create(std::move(model), chosen, device);
    if (!created) return created;
    return std::make_unique<device_engine>(std::move(*created), on.loss);
  };
  return backend;
}

}  // namespace bitnet::actors
