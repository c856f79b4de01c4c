#pragma once

#include "actors/health.hpp"
#include "actors/hysteresis.hpp"
#include "actors/probes/process.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::actors {

struct process_watch_options {
  double files_percent = 90;                   ///< of RLIMIT_NOFILE: degraded; clears below 85 %
  double pids_percent = 90;                    ///< of the cgroup's pids.max: degraded; clears below 85 %
  unsigned failed_thread_starts = 2;           ///< in a row: unhealthy
  std::chrono::seconds log_memory{30};         ///< a write error degrades for so long
  std::chrono::seconds log_blocked{10};        ///< the writer waits so long for one line: degraded
  std::chrono::milliseconds clock_jump{1000};  ///< wall against steady between two readings: a note
  std::chrono::milliseconds gap{1500};         ///< between two readings, beyond the period: a note
  std::chrono::seconds stuck{10};  ///< one message of an actor takes, or waits, so long: unhealthy
  unsigned stuck_readings = 3;     ///< in a row: the process itself may have been stopped
};

/// Judges what the process uses of descriptors, threads and its log, and notices what happened to its clocks.
class process_watch {
 public:
  struct verdict {
    health_status status = health_status::healthy;
    std::string code = std::string(health_ok);
    std::string message;
    std::vector<health_note> notes;
  };

  explicit process_watch(process_watch_options options, std::chrono::milliseconds period)
      : options_(options),
        period_(period),
        files_(options.files_percent, options.files_percent - 5),
        pids_(options.pids_percent, options.pids_percent - 5) {}

  verdict judge(const process_reading& now);

 private:
  void notice_clocks(const process_reading& now, verdict& v) const;
  void judge_files(const process_reading& now, verdict& v);
  void judge_threads(const process_reading& now, verdict& v);
  void judge_log(const process_reading& now, verdict& v);
  void judge_actors(const process_reading& now, verdict& v);

  process_watch_options options_;
  std::chrono::milliseconds period_;
  hysteresis files_;
  hysteresis pids_;
  unsigned failed_starts_ = 0;
  unsigned stuck_ = 0;                                  ///< readings with the same actor at the same message
  std::optional<std::chrono::nanoseconds> log_failed_;  ///< when a line was last seen to be lost
  std::optional<process_reading> last_;
};

}  // namespace bitnet::actors
