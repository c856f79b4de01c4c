#include "actors/process_watch.hpp"

#include <fmt/format.h>

#include <utility>

namespace bitnet::actors {

namespace {

double seconds(std::chrono::nanoseconds d) {
  return std::chrono::duration<double>(d).count();
}

double percent_of(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

/// The worse finding leads; the others follow in the message.
void find(process_watch::verdict& v, health_status status, std::string_view code, std::string message) {
  if (status > v.status) {
    v.status = status;
    v.code = code;
    v.message = v.message.empty() ? std::move(message) : std::move(message) + "; " + v.message;
  } else {
    v.message += (v.message.empty() ? "" : "; ") + message;
  }
}

}  // namespace

void process_watch::notice_clocks(const process_reading& now, verdict& v) const {
  if (!last_) return;
  const auto steady = now.steady - last_->steady;
  const auto jump = now.wall - last_->wall - steady;
  if (std::chrono::abs(jump) >= options_.clock_jump)
    v.notes.push_back({"process", "clock_jump",
                       fmt::format("the wall clock jumped by {:+.1f} s; nothing here depends on it but the "
                                   "timestamps",
                                   seconds(jump))});
  if (steady > period_ + options_.gap)
    v.notes.push_back({"process", "suspended",
                       fmt::format("the process did not run for about {:.1f} s: stopped, or without a CPU",
                                   seconds(steady - period_))});
}

void process_watch::judge_files(const process_reading& now, verdict& v) {
  if (!now.files || now.file_limit == 0) return;
  const auto percent = percent_of(*now.files, now.file_limit);
  if (files_.update(percent))
    find(v, health_status::degraded, "files_exhausted",
         fmt::format("{} of {} file descriptors are in use ({:.0f} %)", *now.files, now.file_limit, percent));
}

void process_watch::judge_threads(const process_reading& now, verdict& v) {
  failed_starts_ = now.thread_starts ? 0 : failed_starts_ + 1;
  if (failed_starts_ >= options_.failed_thread_starts)
    find(v, health_status::unhealthy, "thread_limit",
         "no thread can be started: a limit on threads or memory is reached");
  if (!now.pids || !now.pid_limit) return;
  const auto percent = percent_of(*now.pids, *now.pid_limit);
  if (pids_.update(percent))
    find(v, health_status::degraded, "thread_limit_near",
         fmt::format("{} of {} threads of the cgroup are in use ({:.0f} %)", *now.pids, *now.pid_limit,
                     percent));
}

void process_watch::judge_log(const process_reading& now, verdict& v) {
  const auto before = last_ ? last_->log : log_reading{};
  if (now.log.lines_dropped > 0 && before.lines_dropped == 0)
    v.notes.push_back(
        {"process", "log_lines_dropped", "the log is read too slowly; its oldest lines are dropped"});
  if (now.log.write_errors > before.write_errors) log_failed_ = now.steady;
  if (log_failed_ && now.steady - *log_failed_ >= options_.log_memory) log_failed_.reset();
  if (log_failed_)
    find(v, health_status::degraded, "log_write_failed",
         fmt::format("the log cannot be written: {} lines are lost so far (disk full, or its reader is gone)",
                     now.log.write_errors));
  if (now.log.blocked_for >= options_.log_blocked)
    find(v, health_status::degraded, "log_blocked",
         fmt::format("nobody has read the log for {:.0f} s; {} lines were dropped so far",
                     seconds(now.log.blocked_for), now.log.lines_dropped));
}

void process_watch::judge_actors(const process_reading& now, verdict& v) {
  if (!now.stuck) {
    stuck_ = 0;
    return;
  }
  const auto& before = last_ ? last_->stuck : std::nullopt;
  const bool same = before && before->id == now.stuck->id && before->done == now.stuck->done;
  stuck_ = same ? stuck_ + 1 : 1;
  if (stuck_ < options_.stuck_readings) return;
  find(v, health_status::unhealthy, "actor_hung",
       fmt::format("the {} (actor {}) has been at one message for {:.0f} s; bitnet-console hung tells more",
                   now.stuck->name, now.stuck->id, seconds(std::chrono::nanoseconds(now.stuck->time_ns))));
}

process_watch::verdict process_watch::judge(const process_reading& now) {
  verdict v;
  notice_clocks(now, v);
  judge_files(now, v);
  judge_threads(now, v);
  judge_log(now, v);
  judge_actors(now, v);
  if (v.status == health_status::healthy)
    v.message = fmt::format("{} of {} file descriptors in use, {} log lines lost", now.files.value_or(0),
                            now.file_limit, now.log.lines_dropped + now.log.write_errors);
  last_ = now;
  return v;
}

}  // namespace bitnet::actors
