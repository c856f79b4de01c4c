#pragma once

#include "http/access_control.hpp"
#include "http/answer.hpp"
#include "http/ports.hpp"
#include "http/request_reader.hpp"
#include "http/response_channel.hpp"
#include "http/server_options.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace bitnet::http {

/// Written by one HTTP thread, read by any.
struct thread_counters {
  std::atomic<std::uint64_t> connections_open{0};
  std::atomic<std::uint64_t> connections_total{0};
  std::atomic<std::uint64_t> connections_refused{0};
  std::atomic<std::uint64_t> requests_total{0};
  std::atomic<std::uint64_t> protocol_errors_total{0};

  /// Only on the owning thread: a plain increment, no locked instruction.
  static void add(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
};

/// What a connection needs around it. Everything outlives the connection.
struct connection_environment {
  const connection_limits& limits;
  const std::vector<api_route>& routes;
  const probe_source& probes;
  api_service& api;
  access_control& access;
  const access_log& log;
  thread_counters& counters;
  const std::atomic<bool>& draining;
};

/// The protocol of one connection without its socket: bytes in, bytes out, and the time as an argument.
/// Used by one thread. Any method may throw std::bad_alloc; the connection is then only good for abort().
class connection {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  struct origin {
    std::string remote_address;
    bool probes_only = false;    ///< beyond the connection cap
    std::function<void()> wake;  ///< makes the owner call collect() soon; any thread; see response_channel
  };

  connection(const connection_environment& environment, origin from, time_point now);
  /// abort().
  ~connection();
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  // What happens outside.
  void receive(std::string_view bytes, time_point now);
  void receive_eof(time_point now);
  void collect(time_point now);  ///< the writer has pushed events
  void sent(std::size_t bytes, time_point now);
  void check_deadlines(time_point now);
  /// The server stops: closes at once if idle, else after the response that is under way.
  void finish(time_point now);
  /// The transport is gone: cancels what is pending.
  void abort() noexcept;

  // What the owner is to do next.
  std::string_view output() const noexcept { return std::string_view{output_}.substr(output_begin_); }
  /// False while more input would only pile up; the owner then watches for the client's FIN by other means.
  bool wants_input() const noexcept;
  /// The output is out and the client shall see the end of it; discard input until its FIN.
  bool wants_shutdown() const noexcept { return phase_ == phase::lingering; }
  bool closed() const noexcept { return phase_ == phase::closed; }
  /// The last answer was cut: the client must not see a proper end.
  bool cut_off() const noexcept { return cut_off_; }

  /// Between requests, with nothing left to send.
  bool idle() const noexcept;
  bool exchange_pending() const noexcept { return phase_ == phase::exchange; }
  bool probes_only() const noexcept { return origin_.probes_only; }
  time_point last_activity() const noexcept { return last_activity_; }

 private:
  enum class phase : std::uint8_t {
    header,     ///< between requests, or inside a header
    body,       ///< inside an API request's body
    exchange,   ///< the API works on a response
    closing,    ///< sends what is left, then lingers or closes
    lingering,  ///< waits for the client's FIN, so that a reset does not destroy the last answer
    closed
  };

  struct exchange_state;

  std::size_t process(std::string_view input, time_point now);
  bool process_probe(std::string_view& input);
  void process_header(time_point now);
  void start_exchange(time_point now);
  void apply(response_event& event, time_point now);
  void send_head(unsigned status, const header_list* headers, std::optional<std::uint64_t> length);
  void answer_error(const protocol_error& error, bool keep_alive, const header_list& headers = {});
  void end_exchange(bool completed, time_point now);
  void end_response(bool keep_alive);
  void log_refusal(const protocol_error& error, std::string_view request_id);
  bool answer_preflight(bool keep_alive);
  void open_exchange(admission place, request_target target, time_point now);
  void close_after_output(bool linger);
  void settle(time_point now);
  void process_buffered(time_point now);
  bool must_close() const noexcept;
  std::string_view buffered() const noexcept { return std::string_view{input_}; }

  const connection_environment& environment_;
  origin origin_;
  phase phase_ = phase::header;
  bool linger_ = false;
  bool finishing_ = false;  ///< the server stops
  bool eof_ = false;
  bool cut_off_ = false;
  std::string input_;  ///< received, not yet consumed
  std::string output_;
  std::size_t output_begin_ = 0;
  std::unique_ptr<request_reader> reader_;    ///< while inside a request that the general parser reads
  std::unique_ptr<exchange_state> exchange_;  ///< from an API request's header to its response's end
  time_point deadline_ = time_point::max();   ///< of the phase
  time_point last_activity_;
  time_point last_progress_;  ///< of the output, while there is some
  bool had_output_ = false;
};

/// An x-request-id that is passed on: 1 to 128 visible ASCII characters.
bool is_valid_request_id(std::string_view id) noexcept;

}  // namespace bitnet::http
