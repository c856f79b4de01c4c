#include "actors/engine_process/process_backend.hpp"

#include "actors/engine_process/launcher.hpp"
#include "actors/engine_process/loader_process.hpp"
#include "engine/serving_memory.hpp"

#include <fmt/format.h>

#include <sys/prctl.h>

#include <memory>
#include <mutex>
#include <utility>

namespace bitnet::actors {

namespace {

/// A model's description, and the process that has its weights: whoever lets go of the last pointer to the
/// former ends the latter.
struct hosted_model {
  std::shared_ptr<engine::model> described;
  std::shared_ptr<loader_process> loader;
};

/// What the functions of a backend share: the loaders of all models.
class loader_host {
 public:
  explicit loader_host(process_backend_options options) : options_(std::move(options)) {
    // Engines whose loader dies come to us, who know their ids, and not to a process 1 that may reap nothing.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
  }

  engine::result<std::shared_ptr<const engine::model>> load(const std::filesystem::path& path,
                                                            const engine::load_options& options) {
    auto described = engine::describe_model(path);
    if (!described) return tl::unexpected(std::move(described.error()));
    auto loader = loader_process::start(launcher_, options_.worker_binary);
    if (!loader) return tl::unexpected(std::move(loader.error()));
    auto hosted = std::make_shared<hosted_model>(hosted_model{std::move(*described), std::move(*loader)});
    remember(hosted);
    if (auto done = hosted->loader->load(*hosted->described, options); !done)
      return tl::unexpected(std::move(done.error()));
    const auto* model = hosted->described.get();
    return std::shared_ptr<const engine::model>(std::move(hosted), model);
  }

  engine::result<std::unique_ptr<inference_engine>> create(const std::shared_ptr<const engine::model>& model,
                                                           const engine::generation_options& options,
                                                           std::size_t device) {
    const auto loader = loader_of(*model);
    if (!loader) return engine::fail(engine::error_code::internal, "No process holds the weights.");
    spawn_command command;
    command.options = options;
    command.options.progress = nullptr;
    command.options.profile = nullptr;
    if (!options_.devices.empty()) command.device = options_.devices.at(device);
    command.faults = options_.faults != nullptr;
    command.scrub_bytes_per_second = options_.scrub_bytes_per_second;
    return loader->start_engine(model, command);
  }

  void unload(const engine::model& model) {
    if (const auto loader = loader_of(model)) loader->stop();
  }

  std::optional<std::string> lost(const engine::model& model) {
    const auto loader = loader_of(model);
    if (!loader) return "no process holds the weights";
    const auto end = loader->ended();
    if (!end) return std::nullopt;
    return fmt::format("the process that holds the weights ({}) {}", loader->pid(), *end);
  }

  std::vector<model_processes> processes() {
    std::vector<model_processes> found;
    for (const auto& hosted : all())
      if (hosted->loader->running())
        found.push_back({hosted->described.get(), hosted->loader->pid(), hosted->loader->engine_pids()});
    return found;
  }

  /// In the model that was loaded last.
  fault_outcome corrupt(const fault_request& fault) {
    const auto offset = fault.number("offset", 0, 0, 1e15);
    if (!offset) return tl::unexpected(offset.error());
    const auto region = fault.parameters.find("region");
    const auto known = all();
    if (known.empty()) return tl::unexpected<std::string>("no process holds the weights now");
    const auto done = known.back()->loader->corrupt(
        {region == fault.parameters.end() ? "" : region->second, static_cast<std::uint64_t>(*offset)});
    if (!done) return tl::unexpected(done.error().message);
    return fmt::format("flipped a bit of {} at {} for all later engines", *done,
                       static_cast<std::uint64_t>(*offset));
  }

 private:
  void remember(const std::shared_ptr<hosted_model>& hosted) {
    const std::lock_guard lock(mutex_);
    std::erase_if(hosted_, [](const auto& one) { return one.expired(); });
    hosted_.push_back(hosted);
  }
  std::vector<std::shared_ptr<hosted_model>> all() const {
    std::vector<std::shared_ptr<hosted_model>> found;
    const std::lock_guard lock(mutex_);
    for (const auto& one : hosted_)
      if (auto hosted = one.lock()) found.push_back(std::move(hosted));
    return found;
  }
  std::shared_ptr<loader_process> loader_of(const engine::model& model) const {
    for (const auto& hosted : all())
      if (hosted->described.get() == &model) return hosted->loader;
    return nullptr;
  }

  process_backend_options options_;
  launcher launcher_;
  mutable std::mutex mutex_;                         ///< of the list
  std::vector<std::weak_ptr<hosted_model>> hosted_;  ///< oldest first
};

}  // namespace

inference_backend process_backend(process_backend_options options) {
  auto* const faults = options.faults;
  auto devices = options.devices;
  auto host = std::make_shared<loader_host>(std::move(options));
  inference_backend backend;
  backend.load_model = [host](const std::filesystem::path& path, const engine::load_options& load) {
    return host->load(path, load);
  };
  if (devices.empty())
    backend.check_room = engine::check_memory_to_serve;  // elsewhere the KV cache is the device's
  backend.create_engine = [host](std::shared_ptr<const engine::model> model,
                                 const engine::generation_options& generation,
                                 std::size_t device) { return host->create(model, generation, device); };
  backend.devices = std::move(devices);
  backend.model_lost = [host](const engine::model& model) { return host->lost(model); };
  backend.unload = [host](const engine::model& model) { host->unload(model); };
  backend.processes = [host] { return host->processes(); };
  backend.own_weights = true;
  if (faults != nullptr)
    faults->declare(
        {"loader-bit-flip",
         "a bit flips in the weights that later engines get; region (default the largest), offset",
         [weak = std::weak_ptr(host)](const fault_request& fault) -> fault_outcome {
           const auto target = weak.lock();
           if (!target) return tl::unexpected<std::string>("the server stops");
           return target->corrupt(fault);
         }});
  return backend;
}

}  // namespace bitnet::actors
