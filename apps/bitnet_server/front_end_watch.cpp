#include "apps/bitnet_server/front_end_watch.hpp"

#include <fmt/format.h>

namespace bitnet::apps {

namespace {

using actors::health_status;

constexpr std::chrono::seconds silence_limit{2};
/// In a row: when the whole process was stopped, its threads are late at the first look only.
constexpr unsigned silent_looks = 2;
constexpr std::chrono::seconds refusal_memory{4};

}  // namespace

actors::component_report front_end_watch::judge(const reading& now, actors::steady_time time) {
  actors::component_report r;
  r.component = "http";
  r.status = health_status::healthy;
  r.period_ns = period_ns;
  if (now.refused > refused_) refused_last_ = time;
  refused_ = now.refused;
  silent_ = now.silence > silence_limit ? silent_ + 1 : 0;
  r.message = fmt::format("every thread answers, {} of {} connections", now.connections, now.limit);
  if (refused_last_ && time - *refused_last_ < refusal_memory) {
    r.status = health_status::degraded;
    r.code = "connections_refused";
    r.message =
        fmt::format("{} of {} connections are open and more are turned away; see http.max-connections",
                    now.connections, now.limit);
  }
  if (silent_ >= silent_looks) {
    r.status = health_status::unhealthy;
    r.code = "http_thread_hung";
    r.message = fmt::format("a thread that serves HTTP has not run for {:.1f} s; its connections hang",
                            std::chrono::duration<double>(now.silence).count());
  }
  return r;
}

}  // namespace bitnet::apps
