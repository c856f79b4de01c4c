#include "actors/engine_drill.hpp"

#include "engine/weight_protection.hpp"

#include <fmt/format.h>

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <thread>
#include <utility>

namespace bitnet::actors {

namespace {

using namespace std::chrono_literals;

/// Long enough for any drill; "for ever" where no time is given.
constexpr double longest_seconds = 86400;

std::int64_t now_ns() noexcept {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

tl::expected<std::chrono::steady_clock::time_point, std::string> until(const fault_request& fault) {
  const auto seconds = fault.number("seconds", longest_seconds, 0, longest_seconds);
  if (!seconds) return tl::unexpected(seconds.error());
  return std::chrono::steady_clock::now() +
         std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(*seconds));
}

[[noreturn]] void crash_now(int signal_number) {
  // As a bug would, without the handlers that a sanitizer may have set.
  ::signal(signal_number, SIG_DFL);
  ::raise(signal_number);
  ::_Exit(70);
}

}  // namespace

engine_drill::engine_drill(std::unique_ptr<engine::generation_loop> loop,
                           std::shared_ptr<const engine::model> model, engine_faults allowed)
    : generation_engine(std::move(loop)), model_(std::move(model)), allowed_(allowed) {}

std::vector<std::pair<std::string, std::string>> engine_drill::faults() {
  return {
      {"hang", "the next step or canary does not return; seconds (0 to 86400, default for ever)"},
      {"crash", "the engine's process ends by a signal; how (abort, segv, bus or kill, default abort)"},
      {"livelock", "steps turn but no sequence gets a token; seconds (0 to 86400, default for ever)"},
      {"nan", "a norm weight is not a number, hence every logit; steps (0: for ever, default 1)"},
      {"bit-flip",
       "one bit of the packed weights flips; region (default the largest), offset (bytes, default 0)"},
      {"slow-step", "steps take longer; factor (1 to 10000, default 10), seconds (default for ever)"},
      {"kv-leak", "KV blocks get lost; blocks (default all that are free)"},
  };
}

fault_outcome engine_drill::cause_fault(const fault_request& fault) {
  if (fault.fault == "hang") return hang(fault);
  if (fault.fault == "crash") return crash(fault);
  if (fault.fault == "livelock") return livelock(fault);
  if (fault.fault == "nan") return not_a_number(fault);
  if (fault.fault == "bit-flip") return flip_bit(fault);
  if (fault.fault == "slow-step") return slow_down(fault);
  if (fault.fault == "kv-leak") return leak_kv(fault);
  return tl::unexpected(fmt::format("the engine knows no fault '{}'", fault.fault));
}

fault_outcome engine_drill::hang(const fault_request& fault) {
  const auto end = until(fault);
  if (!end) return tl::unexpected(end.error());
  hang_until_ = *end;
  return "the next step or canary hangs";
}

fault_outcome engine_drill::crash(const fault_request& fault) const {
  if (allowed_ != engine_faults::all)
    return tl::unexpected<std::string>(
        "the engine shares its process with the server; use --engine.isolation=process");
  const auto how = fault.choice("how", "abort", {"abort", "segv", "bus", "kill"});
  if (!how) return tl::unexpected(how.error());
  const int number = *how == "abort" ? SIGABRT : *how == "segv" ? SIGSEGV : *how == "bus" ? SIGBUS : SIGKILL;
  // After the answer is out.
  std::thread([number] {
    std::this_thread::sleep_for(50ms);
    crash_now(number);
  }).detach();
  return "the engine's process crashes in 50 ms";
}

fault_outcome engine_drill::livelock(const fault_request& fault) {
  const auto end = until(fault);
  if (!end) return tl::unexpected(end.error());
  livelock_until_ = *end;
  return "steps deliver nothing from now on";
}

fault_outcome engine_drill::not_a_number(const fault_request& fault) {
  const auto steps = fault.number("steps", 1, 0, 1e9);
  if (!steps) return tl::unexpected(steps.error());
  end_not_a_number();
  bad_steps_left_ =
      *steps == 0 ? std::numeric_limits<std::uint64_t>::max() : static_cast<std::uint64_t>(*steps);
  sound_weight_ = engine::exchange_output_norm(*model_->weights, std::numeric_limits<float>::quiet_NaN());
  return "a norm weight is not a number now";
}

fault_outcome engine_drill::flip_bit(const fault_request& fault) {
  const auto offset = fault.number("offset", 0, 0, 1e15);
  if (!offset) return tl::unexpected(offset.error());
  const auto region = fault.parameters.find("region");
  const auto flipped =
      engine::flip_weight_bit(*model_->weights, region == fault.parameters.end() ? "" : region->second,
                              static_cast<std::size_t>(*offset));
  if (!flipped) return tl::unexpected(flipped.error().message);
  return fmt::format("flipped a bit of {} at {}", *flipped, static_cast<std::size_t>(*offset));
}

fault_outcome engine_drill::slow_down(const fault_request& fault) {
  const auto factor = fault.number("factor", 10, 1, 10000);
  const auto end = until(fault);
  if (!factor) return tl::unexpected(factor.error());
  if (!end) return tl::unexpected(end.error());
  slow_factor_ = *factor;
  slow_until_ = *end;
  return fmt::format("steps take {} times as long", *factor);
}

fault_outcome engine_drill::leak_kv(const fault_request& fault) {
  const auto blocks = fault.number("blocks", 1e15, 1, 1e15);
  if (!blocks) return tl::unexpected(blocks.error());
  return fmt::format("lost {} KV blocks", loop().leak_kv_blocks(static_cast<std::size_t>(*blocks)));
}

void engine_drill::hang_now() noexcept {
  while (clock::now() < hang_until_) {
    // In a thread of the server the hang ends when the worker is asked to give up, as a pass does.
    if (allowed_ != engine_faults::all && progress().cancel.exchange(false, std::memory_order_relaxed)) {
      hang_until_ = {};
      return;
    }
    std::this_thread::sleep_for(10ms);
  }
}

/// Lets time pass as slow computing would: with progress.
void engine_drill::pause(std::chrono::nanoseconds time) noexcept {
  const auto end = clock::now() + time;
  while (clock::now() < end) {
    std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(end - clock::now(), 20ms));
    progress().last_progress_ns.store(now_ns(), std::memory_order_relaxed);
  }
}

void engine_drill::end_not_a_number() noexcept {
  if (bad_steps_left_ == 0) return;
  engine::exchange_output_norm(*model_->weights, sound_weight_);
  bad_steps_left_ = 0;
}

std::vector<engine::generation_event> engine_drill::step() {
  hang_now();
  if (clock::now() < livelock_until_) {
    progress().step.fetch_add(1, std::memory_order_relaxed);
    pause(1ms);
    return {};
  }
  const auto began = clock::now();
  auto events = generation_engine::step();
  if (clock::now() < slow_until_)
    pause(std::chrono::duration_cast<std::chrono::nanoseconds>((clock::now() - began) * (slow_factor_ - 1)));
  if (bad_steps_left_ == 1) end_not_a_number();
  if (bad_steps_left_ > 1) --bad_steps_left_;
  return events;
}

engine::result<std::uint64_t> engine_drill::probe_hash() {
  hang_now();
  return generation_engine::probe_hash();
}

}  // namespace bitnet::actors
