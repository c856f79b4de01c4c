#pragma once

#include "actors/cluster/node.hpp"
#include "actors/cluster/routing.hpp"
#include "actors/cluster/stream.hpp"
#include "actors/stream_table.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace bitnet::tests {

namespace cluster = actors::cluster;
using actors::steady_time;
using std::chrono::milliseconds;

/// The token that a model gives at a position: any change, loss or repetition of tokens shows.
std::uint32_t simulated_token(std::uint64_t seed, std::size_t position);

struct network_options {
  double drop = 0;       ///< part of the messages
  double duplicate = 0;  ///< likewise
  milliseconds delay_min{0};
  milliseconds delay_max{2};  ///< a wide range reorders
};

/// A cluster in one thread: the state machines that serve, a network that loses, repeats, delays, reorders
/// and cuts, processes that stop, crash and start again, and clients that check every token. The same seed
/// gives the same run.
class simulation {
 public:
  struct options {
    std::uint64_t seed = 1;
    std::size_t nodes = 3;
    network_options network;
    bool through_codec = true;  ///< encode and decode every message
    std::size_t worker_capacity = 8;
    milliseconds step{50};  ///< of a worker
    bool worker = true;
  };

  explicit simulation(options o);
  ~simulation();

  void run(milliseconds duration);
  steady_time now() const noexcept { return now_; }

  // Faults.
  void start(std::size_t i);                 ///< as a new node with the same address
  void crash(std::size_t i, bool host_too);  ///< with `host_too` nobody's connection is reset
  void pause(std::size_t i, milliseconds duration);
  void cut(std::size_t from, std::size_t to, bool yes) { cut_[{from, to}] = yes; }
  void isolate(std::size_t i, bool yes);
  void heal();
  void drain(std::size_t i);  ///< declares, hands its streams over after a second, leaves
  network_options& network() noexcept { return options_.network; }

  bool up(std::size_t i) const;
  bool paused(std::size_t i) const;
  const cluster::node& node_at(std::size_t i) const;

  /// A client's request at a gateway.
  void request(std::size_t gateway, std::uint32_t length);

  struct event_record {
    steady_time at;
    std::size_t seen_by;
    std::size_t about;  ///< index of the machine
    cluster::node::event::kind what;
    bool about_current;  ///< it is about the process that runs there now
  };
  const std::vector<event_record>& events() const noexcept { return log_; }

  // What clients saw.
  struct totals {
    std::size_t requests = 0;
    std::size_t finished = 0;
    std::size_t refused = 0;
    std::size_t gateway_lost = 0;  ///< the client's own node crashed
    std::size_t resumed = 0;
    milliseconds longest_gap{0};
  };
  totals count() const;
  /// What went wrong; empty when all is well.
  const std::string& violation() const noexcept { return violation_; }

  /// Every running node has the same members, and these are the running ones.
  bool converged() const;
  std::uint64_t messages() const noexcept { return messages_; }
  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  struct machine;
  struct client;
  struct event;
  struct later {
    bool operator()(const event& a, const event& b) const;
  };

  void at(steady_time when, event e);
  void handle(event& e);
  void deliver(std::size_t from, std::size_t to, const cluster::node::shared_message& m);
  void send(std::size_t from, const cluster::node_id& to, cluster::node::shared_message m);
  void send(std::size_t from, const cluster::node_id& to, cluster::message m);
  void flush(std::size_t i);
  void dial(std::size_t from, const std::string& address);
  void tick(std::size_t i);
  void step(std::size_t i);
  void pump(std::size_t i);
  void serve(std::size_t i, const cluster::node_id& gateway, const cluster::message& m);
  void receive(std::size_t i, const cluster::node_id& worker, const cluster::message& m);
  void take_frame(std::size_t i, std::uint64_t key, actors::token_frame frame);
  void lose(std::size_t i, std::uint64_t key);
  void fail(std::string why);
  milliseconds delay();
  bool chance(double p);
  bool open(std::size_t from, std::size_t to) const;

  options options_;
  std::mt19937_64 random_;
  steady_time now_;
  std::uint64_t order_ = 0;
  std::priority_queue<event, std::vector<event>, later> queue_;
  std::vector<std::unique_ptr<machine>> machines_;
  std::map<cluster::node_id, std::size_t> index_;
  std::map<std::pair<std::size_t, std::size_t>, bool> cut_;
  std::vector<client> clients_;
  std::vector<event_record> log_;
  std::string violation_;
  std::uint64_t messages_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace bitnet::tests
