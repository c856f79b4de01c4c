#include "actors/engine_process/process_backend.hpp"

#include "actors/engine_process/launcher.hpp"
#include "actors/engine_process/loader_process.hpp"

#include <fmt/format.h>

#include <sys/prctl.h>

#include <memory>
#include <mutex>
#include <utility>

namespace bitnet::actors {

namespace {

/// What the functions of a backend share: the loader of the model that was loaded last.
class loader_host {
 public:
  explicit loader_host(process_backend_options options) : options_(std::move(options)) {
    // Engines whose loader dies come to us, who know their ids, and not to a process 1 that may reap nothing.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
  }

  engine::result<std::shared_ptr<const engine::model>> load(const std::filesystem::path& path,
                                                            const engine::load_options& options) {
    // The old weights first: there may not be memory for both.
    if (const auto old = exchange(nullptr)) old->stop();
    auto model = engine::describe_model(path);
    if (!model) return tl::unexpected(std::move(model.error()));
    auto loader = loader_process::start(launcher_, options_.worker_binary);
    if (!loader) return tl::unexpected(std::move(loader.error()));
    exchange(*loader);
    if (auto done = (*loader)->load(**model, options); !done) {
      exchange(nullptr);
      return tl::unexpected(std::move(done.error()));
    }
    return std::move(*model);
  }

  engine::result<std::unique_ptr<inference_engine>> create(const std::shared_ptr<const engine::model>& model,
                                                           const engine::generation_options& options) {
    const auto loader = current();
    if (!loader) return engine::fail(engine::error_code::internal, "No process holds the weights.");
    spawn_command command;
    command.options = options;
    command.options.progress = nullptr;
    command.options.profile = nullptr;
    command.device = options_.device;
    command.faults = options_.faults != nullptr;
    command.scrub_bytes_per_second = options_.scrub_bytes_per_second;
    return loader->start_engine(model, command);
  }

  std::optional<std::string> lost() {
    const auto loader = current();
    if (!loader) return std::nullopt;  // not loaded, or loading again
    const auto end = loader->ended();
    if (!end) return std::nullopt;
    return fmt::format("the process that holds the weights ({}) {}", loader->pid(), *end);
  }

  std::vector<pid_t> processes() {
    std::vector<pid_t> all;
    const auto loader = current();
    if (!loader) return all;
    all.push_back(loader->pid());
    if (const auto engine = loader->engine_pid(); engine != 0) all.push_back(engine);
    return all;
  }

  fault_outcome corrupt(const fault_request& fault) {
    const auto offset = fault.number("offset", 0, 0, 1e15);
    if (!offset) return tl::unexpected(offset.error());
    const auto region = fault.parameters.find("region");
    const auto loader = current();
    if (!loader) return tl::unexpected<std::string>("no process holds the weights now");
    const auto done = loader->corrupt(
        {region == fault.parameters.end() ? "" : region->second, static_cast<std::uint64_t>(*offset)});
    if (!done) return tl::unexpected(done.error().message);
    return fmt::format("flipped a bit of {} at {} for all later engines", *done,
                       static_cast<std::uint64_t>(*offset));
  }

 private:
  std::shared_ptr<loader_process> current() const {
    const std::lock_guard lock(mutex_);
    return loader_;
  }
  std::shared_ptr<loader_process> exchange(std::shared_ptr<loader_process> next) {
    const std::lock_guard lock(mutex_);
    return std::exchange(loader_, std::move(next));
  }

  process_backend_options options_;
  launcher launcher_;
  mutable std::mutex mutex_;  ///< of the pointer
  std::shared_ptr<loader_process> loader_;
};

}  // namespace

inference_backend process_backend(process_backend_options options) {
  auto* const faults = options.faults;
  auto host = std::make_shared<loader_host>(std::move(options));
  inference_backend backend;
  backend.load_model = [host](const std::filesystem::path& path, const engine::load_options& load) {
    return host->load(path, load);
  };
  backend.create_engine = [host](std::shared_ptr<const engine::model> model,
                                 const engine::generation_options& generation) {
    return host->create(model, generation);
  };
  backend.model_lost = [host] { return host->lost(); };
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
