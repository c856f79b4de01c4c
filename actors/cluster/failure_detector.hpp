#pragma once

#include "actors/cluster/identity.hpp"
#include "actors/health.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

namespace bitnet::actors::cluster {

struct detector_options {
  std::chrono::milliseconds tick{100};  ///< how often `tick` is called
  std::chrono::milliseconds ping_every{500};
  std::chrono::milliseconds suspect_after{2000};   ///< without an answer: nothing new is sent there
  std::chrono::milliseconds dead_after{4000};      ///< without a sign of life, to us or to others
  std::chrono::milliseconds indirect_after{1500};  ///< without an answer: others are asked
  std::chrono::milliseconds indirect_every{1000};
  unsigned indirect_probes = 2;  ///< others asked at a time
};

/// Whether this node's neighbours live. Knows no clock and no network: told what came, it says what to send.
///
/// Two questions, two clocks. Suspect: does a round trip work? Without one, nothing that needs answers may be
/// sent there, and being wrong is cheap. Dead: is there any sign of life? A message from the node, or
/// somebody else's word that it answered, is one, so a link that fails in one direction, or only between two
/// nodes, makes a suspect and never a dead one.
///
/// Time in which this process itself did not run (stopped, swapped out, starved) is nobody's silence: what a
/// tick comes late is taken off all waits.
class failure_detector {
 public:
  explicit failure_detector(detector_options options, std::uint64_t seed)
      : options_(options), random_(seed) {}

  /// Whom to watch from now on. New ones start with a full wait.
  void watch(const std::vector<node_id>& neighbours, steady_time now);

  /// Any message came from it.
  void heard(const node_id& from, steady_time now);
  /// It answered a ping. Old answers count as heard only.
  void acknowledged(const node_id& from, std::uint64_t seq, steady_time now);
  /// Somebody says that it answers.
  void vouched(const node_id& target, steady_time now);
  /// Its connection broke: if it lives it answers the next ping soon. Suspect until then.
  void disconnected(const node_id& from, steady_time now);

  struct decisions {
    std::vector<std::pair<node_id, std::uint64_t>> pings;     ///< to whom, seq
    std::vector<std::pair<node_id, node_id>> probe_requests;  ///< to whom, about whom
    std::vector<node_id> suspects;
    std::vector<node_id> recovered;
    std::vector<node_id> dead;  ///< watched no longer
  };
  decisions tick(steady_time now);

  bool watches(const node_id& id) const { return watched_.contains(id); }
  bool suspect(const node_id& id) const;
  /// A watched one from which a message came within `suspect_after`.
  bool fresh(const node_id& id, steady_time now) const;
  /// Smoothed round trip; zero before the first.
  std::chrono::nanoseconds round_trip(const node_id& id) const;
  /// How late ticks came in all: time that was taken off waits.
  std::chrono::nanoseconds lag() const noexcept { return lag_; }

 private:
  struct watched {
    steady_time acknowledged;
    steady_time heard;  ///< or vouched for
    steady_time pinged{};
    steady_time probed{};  ///< others were last asked
    std::uint64_t seq = 0;
    std::chrono::nanoseconds round_trip{0};
    bool suspect = false;
    bool disconnected = false;
    bool asked = false;  ///< others, since the last sign of life
  };

  void take_off_lag(steady_time now);
  void ask_others(const node_id& about, watched& w, steady_time now, decisions& out);

  detector_options options_;
  std::minstd_rand random_;
  std::map<node_id, watched> watched_;
  std::vector<node_id> recovered_;
  steady_time last_tick_{};
  std::chrono::nanoseconds lag_{0};
};

}  // namespace bitnet::actors::cluster
