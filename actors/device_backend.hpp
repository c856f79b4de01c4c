#pragma once

#include "actors/inference_engine.hpp"
#include "engine/compute_device.hpp"

#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace bitnet::actors {

/// Whether a device is lost to this process: engines write, supervisors read. Thread-safe.
class device_loss {
 public:
  void set(std::string why);
  std::optional<std::string> why() const;

 private:
  mutable std::mutex mutex_;
  std::optional<std::string> why_;
};

/// `backend` with engines on `device`. Where an engine loses the device (engine::device_lost), it notes that
/// in `loss` and passes the exception on, which ends its worker; from then on no engine is created. `loss`
/// may be null.
inference_backend on_device(inference_backend backend, std::shared_ptr<engine::compute_device> device,
                            std::shared_ptr<device_loss> loss);

}  // namespace bitnet::actors
