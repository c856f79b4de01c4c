#include "actors/snapshot_store.hpp"

#include "actors/health_render.hpp"

#include <algorithm>
#include <utility>

namespace bitnet::actors {

namespace {

std::size_t this_thread_stripe(std::size_t count) noexcept {
  static std::atomic<std::size_t> threads{0};
  static thread_local const std::size_t index = threads.fetch_add(1, std::memory_order_relaxed);
  return index % count;
}

void append(const rendered_answer& answer, bool head, bool keep_alive, std::string& out) {
  out += keep_alive ? answer.header_keep_alive : answer.header_close;
  if (!head) out += answer.body;
}

}  // namespace

snapshot_store::snapshot_store(clock now) : now_(std::move(now)) {
  if (!now_) now_ = [] { return std::chrono::steady_clock::now(); };
}

snapshot_store::~snapshot_store() {
  delete current_.load();
}

bool snapshot_store::drained(std::size_t parity) const noexcept {
  return std::all_of(stripes_.begin(), stripes_.end(), [parity](const stripe& s) {
    return s.readers[parity].load(std::memory_order_seq_cst) == 0;
  });
}

void snapshot_store::reclaim() {
  for (std::size_t p = 0; p < 2; ++p)
    if (drained(p)) seen_zero_at_[p] = generation_;
  const auto safe = std::min(seen_zero_at_[0], seen_zero_at_[1]);
  while (!retired_.empty() && retired_.front().generation <= safe) retired_.pop_front();
}

bool snapshot_store::publish(std::unique_ptr<const rendered_snapshot> next) {
  reclaim();
  if (retired_.size() >= max_retired) return false;
  retired_.push_back({nullptr, ++generation_});  // first what may throw
  retired_.back().snapshot.reset(current_.exchange(next.release(), std::memory_order_seq_cst));
  // New readers take the other counter, so that this one gets to zero however many there are.
  parity_.store(parity_.load(std::memory_order_relaxed) ^ 1U, std::memory_order_relaxed);
  reclaim();
  return true;
}

snapshot_store::reader::reader(const snapshot_store& store)
    : counter_(store.stripes_[this_thread_stripe(stripe_count)]
                   .readers[store.parity_.load(std::memory_order_relaxed)]) {
  counter_.fetch_add(1, std::memory_order_seq_cst);
}

snapshot_store::reader::~reader() {
  counter_.fetch_sub(1, std::memory_order_release);
}

snapshot_store::latest_facts snapshot_store::facts() const {
  const reader inside(*this);
  const auto* snapshot = current_.load(std::memory_order_seq_cst);
  if (snapshot == nullptr) return {};
  return {snapshot->facts, now_() - snapshot->stamp};
}

void snapshot_store::append_answer(probe which, bool head, bool keep_alive, std::string& out) const {
  // Measured for a 1.7 kB answer: 85 ns, of which the clock takes 31; with liburcu-memb's read lock 86 ns. So
  // the library, its per-thread registration and what ThreadSanitizer cannot see of it would buy nothing.
  //
  // Announce, load, copy, leave. The announcement and the load are sequentially consistent: either the writer
  // sees the announcement, or this load sees what the writer published before it looked.
  const reader inside(*this);
  const auto* snapshot = current_.load(std::memory_order_seq_cst);
  const auto now = now_();
  if (snapshot == nullptr || now - snapshot->stamp > stale_after) {
    const auto age = snapshot == nullptr ? std::chrono::nanoseconds::max()
                                         : std::chrono::nanoseconds(now - snapshot->stamp);
    append(render_stale(which, age, std::chrono::system_clock::now()), head, keep_alive, out);
    return;
  }
  if (which == probe::live && now < snapshot->grace_end) {
    append(snapshot->live_in_grace, head, keep_alive, out);
    return;
  }
  append(snapshot->answers[static_cast<std::size_t>(which)], head, keep_alive, out);
}

}  // namespace bitnet::actors
