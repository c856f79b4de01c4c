#pragma once

#include "http/connection.hpp"
#include "http/server_options.hpp"
#include "http/tls_stream.hpp"
#include "http/unique_descriptor.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/intrusive/list.hpp>

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace bitnet::http {

/// What the threads of a server share.
struct server_shared {
  server_shared(server_options o, const probe_source& p, api_service& a, std::unique_ptr<access_control> c,
                std::shared_ptr<const tls_context> t, std::size_t limit)
      : options{std::move(o)},
        probes{p},
        api{a},
        access{std::move(c)},
        connection_limit{limit},
        tls{std::move(t)} {}

  std::shared_ptr<const tls_context> tls_in_force() const {
    return options.tls_certificate.empty() ? nullptr : std::atomic_load(&tls);
  }

  server_options options;
  const probe_source& probes;
  api_service& api;
  std::unique_ptr<access_control> access;
  std::size_t connection_limit;
  std::shared_ptr<const tls_context> tls;         ///< null: plain HTTP. Replaced by atomic_store
  std::atomic<std::size_t> full_connections{0};   ///< against connection_limit
  std::atomic<std::size_t> probe_connections{0};  ///< against options.probe_reserve
  std::atomic<bool> draining{false};
};

class session;

/// What a session is in its thread's list: an intrusive list needs a complete type.
struct session_link : boost::intrusive::list_base_hook<> {};

/// One io_context with its acceptor and connections, run by one thread. Shared ownership: writers that
/// outlive the server still post to it, harmlessly.
class http_thread : public std::enable_shared_from_this<http_thread> {
 public:
  using socket_type =
      boost::asio::basic_stream_socket<boost::asio::ip::tcp, boost::asio::io_context::executor_type>;
  using clock = std::chrono::steady_clock;

  /// `listener` is a listening, non-blocking socket.
  http_thread(std::shared_ptr<server_shared> shared, unique_descriptor listener, bool ipv6);
  ~http_thread();

  /// The thread's main function; returns after stop, when the last connection is closed.
  void run() noexcept;

  /// Any thread. See server::stop.
  void stop(std::chrono::milliseconds grace);

  /// See server::silence.
  std::chrono::milliseconds silence();

  const thread_counters& counters() const noexcept { return counters_; }
  const server_options& options() const noexcept { return shared_->options; }

  // For sessions, on this thread.
  boost::asio::io_context& context() noexcept { return context_; }
  const connection_environment& environment() const noexcept { return environment_; }
  thread_counters& counters() noexcept { return counters_; }
  /// Input is read here and mostly consumed at once: an idle connection owns no buffer.
  std::array<char, 64 * 1024>& scratch() noexcept { return scratch_; }
  void remove(session& s) noexcept;

 private:
  using acceptor_type =
      boost::asio::basic_socket_acceptor<boost::asio::ip::tcp, boost::asio::io_context::executor_type>;
  using timer_type = boost::asio::basic_waitable_timer<clock, boost::asio::wait_traits<clock>,
                                                       boost::asio::io_context::executor_type>;

  void serve();
  void wait_for_connections();
  void accept_connections();
  bool accept_without_descriptors();
  void refill_spares() noexcept;
  void try_admit(unique_descriptor descriptor, const sockaddr_storage& peer, bool probes_only) noexcept;
  void admit(unique_descriptor descriptor, const sockaddr_storage& peer, bool probes_only);
  void back_off();
  bool evict_idle(bool probes_only, std::chrono::milliseconds age);
  void arm_tick();
  void tick();
  void begin_stop(std::chrono::milliseconds grace);
  void close_all();

  std::shared_ptr<server_shared> shared_;
  thread_counters counters_;
  connection_environment environment_;
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  boost::asio::ip::tcp protocol_;
  acceptor_type acceptor_;
  timer_type tick_timer_;
  timer_type backoff_timer_;
  timer_type stop_timer_;
  std::chrono::milliseconds tick_period_;
  clock::time_point asked_{};         ///< whoever calls silence() set the task then
  std::atomic<bool> answered_{true};  ///< it is done
  bool tick_armed_ = false;
  bool stopping_ = false;
  std::vector<unique_descriptor> spares_;  ///< given up for probes when the process runs out of descriptors
  boost::intrusive::list<session_link> sessions_;
  std::array<char, 64 * 1024> scratch_;
};

}  // namespace bitnet::http
