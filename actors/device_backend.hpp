#pragma once

#include "actors/inference_engine.hpp"
#include "engine/compute_device.hpp"

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

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

/// A device that engines of this process compute on.
struct engine_device {
  std::string name;  ///< "cuda:0"
  std::shared_ptr<engine::compute_device> device;
  std::shared_ptr<device_loss> loss = std::make_shared<device_loss>();
};

/// `backend` with an engine on each of `devices`. Where an engine loses its device (engine::device_lost), it
/// notes that in `loss` and passes the exception on, which ends its worker; from then on no engine is created
/// there.
inference_backend on_devices(inference_backend backend, std::vector<engine_device> devices);

}  // namespace bitnet::actors
