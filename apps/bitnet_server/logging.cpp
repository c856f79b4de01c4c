#include "apps/bitnet_server/logging.hpp"

#include <spdlog/async.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace bitnet::apps {

namespace {

constexpr std::size_t queued_lines = 8192;

/// The message as the inside of a JSON string (RFC 8259, section 7).
class json_message : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    for (const char c : message.payload) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        out.push_back('\\');
        out.push_back(c);
      } else if (byte < 0x20) {
        fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
      } else {
        out.push_back(c);
      }
    }
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<json_message>(); }
};

constexpr auto relaxed = std::memory_order_relaxed;
std::atomic<std::uint64_t> write_errors{0};
std::atomic<std::int64_t> write_began_ns{0};  // steady clock; 0: not in a write

std::int64_t steady_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Writes whole lines to a descriptor, and counts those that it could not write.
class descriptor_sink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit descriptor_sink(int descriptor) : descriptor_(descriptor) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    write_began_ns.store(steady_ns(), relaxed);
    std::size_t written = 0;
    while (written < line.size()) {
      const auto n = ::write(descriptor_, line.data() + written, line.size() - written);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        write_errors.fetch_add(1, relaxed);
        break;
      }
      written += static_cast<std::size_t>(n);
    }
    write_began_ns.store(0, relaxed);
  }
  void flush_() override {}

 private:
  int descriptor_;
};

/// Keeps the last lines for the console.
class event_sink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  explicit event_sink(std::shared_ptr<actors::event_log> events) : events_(std::move(events)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    static_assert(SPDLOG_LEVEL_CRITICAL == static_cast<int>(actors::event_level::critical));
    events_->add(message.time, static_cast<actors::event_level>(message.level),
                 {message.payload.data(), message.payload.size()});
  }
  void flush_() override {}

 private:
  std::shared_ptr<actors::event_log> events_;
};

}  // namespace

actors::log_reading read_log() {
  actors::log_reading r;
  if (const auto pool = spdlog::thread_pool()) r.lines_dropped = pool->overrun_counter();
  r.write_errors = write_errors.load(relaxed);
  if (const auto began = write_began_ns.load(relaxed); began != 0)
    r.blocked_for = std::chrono::nanoseconds(steady_ns() - began);
  return r;
}

void start_logging(const config::server_config::log_section& config,
                   std::shared_ptr<actors::event_log> events) {
  spdlog::init_thread_pool(queued_lines, 1);
  // The console's first: it shows the lines also where stderr does not take them.
  const spdlog::sinks_init_list sinks{std::make_shared<event_sink>(std::move(events)),
                                      std::make_shared<descriptor_sink>(STDERR_FILENO)};
  auto logger = std::make_shared<spdlog::async_logger>("bitnet", sinks, spdlog::thread_pool(),
                                                       spdlog::async_overflow_policy::overrun_oldest);
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  if (config.format == "json")
    formatter->add_flag<json_message>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l","message":"%*"})");
  else
    formatter->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %-7l %v");
  logger->set_formatter(std::move(formatter));
  logger->set_level(spdlog::level::from_str(config.level));
  spdlog::set_default_logger(std::move(logger));
}

void stop_logging() {
  spdlog::shutdown();
}

}  // namespace bitnet::apps
