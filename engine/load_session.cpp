#include "engine/load_session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace bitnet::engine {

namespace {

constexpr float progress_step = 1.0F / 128.0F;

/// The failure with the smallest index so far, shared by the threads of one parallel loop.
class first_failure {
 public:
  void set(std::size_t index, error what) {
    const std::lock_guard lock(mutex_);
    if (!failure_ || index < index_) {
      index_ = index;
      failure_ = std::move(what);
    }
    any_.store(true, std::memory_order_relaxed);
  }
  bool any() const noexcept { return any_.load(std::memory_order_relaxed); }
  std::optional<error>& value() noexcept { return failure_; }

 private:
  std::atomic<bool> any_{false};
  std::mutex mutex_;
  std::size_t index_ = 0;
  std::optional<error> failure_;
};

}  // namespace

load_session::load_session(const gguf_file& file, std::size_t threads, std::uint64_t total_bytes,
                           std::function<void(float)> progress, const std::atomic<bool>* cancelled)
    : file_(file),
      scratch_(std::max<std::size_t>(threads, 1)),
      total_bytes_(std::max<std::uint64_t>(total_bytes, 1)),
      progress_(std::move(progress)),
      cancelled_(cancelled) {}

result<void> load_session::parallel(std::size_t count,
                                    const std::function<result<void>(load_scratch&, std::size_t)>& work) {
  // Indices are handed out in order, so when one fails all smaller ones are done or under way: the smallest
  // failure does not depend on the timing.
  std::atomic<std::size_t> next{0};
  first_failure failure;
  const auto loop = [&](std::size_t thread) noexcept {
    while (!failure.any()) {
      const std::size_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) return;
      if (cancelled_ != nullptr && cancelled_->load(std::memory_order_relaxed))
        return failure.set(index, error{error_code::internal, "the load was cancelled"});
      try {
        if (auto done = work(scratch_[thread], index); !done) failure.set(index, std::move(done.error()));
      } catch (const std::bad_alloc&) {
        failure.set(index, error{error_code::out_of_memory, "not enough memory to decode a tensor"});
      }
      if (thread == 0) report_progress();
    }
  };
  std::vector<std::jthread> others;
  try {
    for (std::size_t i = 1; i < std::min(scratch_.size(), count); ++i) others.emplace_back(loop, i);
  } catch (const std::system_error&) {
    // No more threads to be had (a limit on processes): fewer do the same work.
  }
  loop(0);
  others.clear();
  report_progress();
  if (failure.value()) return tl::unexpected(std::move(*failure.value()));
  return {};
}

void load_session::report_progress() {
  if (!progress_) return;
  const auto done = static_cast<float>(std::min(done_bytes_.load(std::memory_order_relaxed), total_bytes_));
  const float fraction = done / static_cast<float>(total_bytes_);
  if (fraction < reported_ + progress_step) return;
  reported_ = fraction;
  progress_(fraction);
}

void load_session::note_requantized(const std::string& tensor) {
  if (requantized_.count++ == 0) requantized_.first = tensor;
}

void load_session::note_implausible(const std::string& tensor) {
  if (implausible_.count++ == 0) implausible_.first = tensor;
}

std::vector<std::string> load_session::warnings() const {
  std::vector<std::string> lines;
  if (requantized_.count != 0) {
    lines.push_back(fmt::format(
        "{} of the linear weights (the first is {}) are not ternary with one scale and were quantised by the "
        "absmean rule; answers differ from those of the original weights",
        requantized_.count, in_quotes(requantized_.first)));
  }
  if (implausible_.count != 0) {
    lines.push_back(
        fmt::format("{} of the linear weights (the first is {}) have an implausible share of zeros; the file "
                    "may be damaged or "
                    "written with another I2_S layout",
                    implausible_.count, in_quotes(implausible_.first)));
  }
  return lines;
}

}  // namespace bitnet::engine
