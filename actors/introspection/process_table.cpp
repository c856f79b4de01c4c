#include "actors/introspection/process_table.hpp"

#include "actors/introspection/process_slot.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <utility>

namespace bitnet::actors {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr std::int64_t window_ns = std::chrono::nanoseconds(process_table::window).count();

/// Only the owner writes it: no read-modify-write needed.
template <class T>
void add_own(std::atomic<T>& counter, T amount) noexcept {
  counter.store(counter.load(relaxed) + amount, relaxed);
}

std::int64_t this_thread() noexcept {
  thread_local const std::int64_t id = syscall(SYS_gettid);
  return id;
}

/// The free list with another first place (+ 1).
std::uint64_t changed(std::uint64_t head, std::uint32_t first) noexcept {
  return ((head >> 32U) + 1) << 32U | first;
}

std::uint64_t stamp_of(std::uint64_t message, std::int64_t time) noexcept {
  return (static_cast<std::uint64_t>(time) >> 8) << 16 | (message & 0xFFFF);
}

/// How long message `number` has waited at `now`. Where its stamp was overwritten by a later message's, the
/// wait of that one: never too much. 0 where the stamp is not there yet.
std::int64_t waited(const process_slot& slot, std::uint64_t number, std::int64_t now) noexcept {
  const auto stamp = slot.arrivals[number % process_slot::stamps].load(relaxed);
  const auto ahead = static_cast<std::int16_t>((stamp - number) & 0xFFFF);
  if (stamp == 0 || ahead < 0) return 0;
  return std::max<std::int64_t>(0, now - static_cast<std::int64_t>(stamp >> 16 << 8));
}

process_window& window_at(process_slot& slot, std::int64_t now) noexcept {
  const auto number = now / window_ns;
  auto& w = slot.windows[static_cast<std::size_t>(number) & 1];
  if (w.number.load(relaxed) == number) return w;
  w.number.store(-1, std::memory_order_release);
  w.done.store(0, relaxed);
  w.busy_ns.store(0, relaxed);
  w.handling.clear();
  w.waiting.clear();
  w.number.store(number, std::memory_order_release);
  return w;
}

void clear(process_slot& slot) noexcept {
  slot.enqueued.store(0, relaxed);
  slot.high_water.store(0, relaxed);
  for (auto& arrival : slot.arrivals) arrival.store(0, relaxed);
  slot.done.store(0, relaxed);
  slot.started_ns.store(0, relaxed);
  slot.thread.store(0, relaxed);
  slot.current.set({});
  for (auto& w : slot.windows) w.number.store(-1, relaxed);
  for (auto& message : slot.last) message.ended_ns.store(0, relaxed);
}

/// Marks the slot's identity as being written.
class identity_change {
 public:
  explicit identity_change(process_slot& slot) noexcept : version_(slot.version) {
    version_.fetch_add(1, relaxed);
    std::atomic_thread_fence(std::memory_order_release);
  }
  ~identity_change() { version_.fetch_add(1, std::memory_order_release); }
  identity_change(const identity_change&) = delete;
  identity_change& operator=(const identity_change&) = delete;

 private:
  std::atomic<std::uint32_t>& version_;
};

void read_windows(const process_slot& slot, std::int64_t now, process_record& r) {
  const auto number = now / window_ns;
  std::array<std::uint64_t, latency_histogram::classes> handling{};
  std::array<std::uint64_t, latency_histogram::classes> waiting{};
  std::uint64_t done = 0;
  std::int64_t busy = r.running_ns;
  for (const auto& w : slot.windows) {
    const auto of = w.number.load(std::memory_order_acquire);
    if (of != number && of != number - 1) continue;
    done += w.done.load(relaxed);
    busy += w.busy_ns.load(relaxed);
    w.handling.add_to(handling);
    w.waiting.add_to(waiting);
  }
  const auto elapsed = std::clamp<std::int64_t>(r.age_ns, 1, now - (number - 1) * window_ns);
  // Less than a second says little about a rate.
  const auto seconds = static_cast<double>(std::max<std::int64_t>(elapsed, 1'000'000'000)) / 1e9;
  r.rate = static_cast<double>(done) / seconds;
  r.busy_percent = std::clamp(static_cast<double>(busy) / 1e7 / seconds, 0.0, 100.0);
  r.handling_p99_ns = std::max(percentile(handling, 0.99), r.running_ns);
  r.waiting_p50_ns = percentile(waiting, 0.5);
  r.waiting_p99_ns = std::max(percentile(waiting, 0.99), r.oldest_wait_ns);
}

void read_last(const process_slot& slot, std::int64_t now, process_record& r) {
  for (std::uint64_t back = 1; back <= std::min<std::uint64_t>(r.done, process_slot::kept_messages); ++back) {
    const auto& message = slot.last[(r.done - back) % process_slot::kept_messages];
    const auto ended = message.ended_ns.load(relaxed);
    if (ended != 0) r.last.push_back({message.kind.get(), now - ended, message.took_ns.load(relaxed)});
  }
}

}  // namespace

process_table::process_table(std::size_t capacity, clock now) : clock_(std::move(now)), slots_(capacity) {}

process_table::~process_table() {
  for (auto& slot : slots_) delete slot.load(relaxed);
}

std::int64_t process_table::steady_now() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// A slot that nobody else has; nullptr where the table is full.
process_slot* process_table::take() {
  auto head = free_.load(std::memory_order_acquire);
  while (static_cast<std::uint32_t>(head) != 0) {
    auto* slot = slots_[static_cast<std::uint32_t>(head) - 1].load(std::memory_order_acquire);
    if (free_.compare_exchange_weak(head, changed(head, slot->next_free.load(relaxed)),
                                    std::memory_order_acq_rel, std::memory_order_acquire))
      return slot;
  }
  auto place = allocated_.load(relaxed);
  do
    if (place == slots_.size()) return nullptr;
  while (!allocated_.compare_exchange_weak(place, place + 1, relaxed));
  auto* slot = new process_slot;  // the table's; without memory for it the place stays empty
  slot->place = static_cast<std::uint32_t>(place);
  slots_[place].store(slot, std::memory_order_release);
  return slot;
}

process_slot* process_table::add(const process_identity& who) {
  auto* slot = take();
  if (slot == nullptr) {
    overflowed_.fetch_add(1, relaxed);
    return nullptr;
  }
  slot->state.store(process_slot::phase::claimed, relaxed);
  const identity_change change(*slot);
  clear(*slot);
  slot->id.store(who.id, relaxed);
  slot->parent.store(who.parent, relaxed);
  slot->spawned_ns.store(now(), relaxed);
  slot->incarnation.store(who.incarnation, relaxed);
  slot->supervised.store(who.supervised, relaxed);
  slot->patience_ns.store(std::chrono::nanoseconds(default_patience).count(), relaxed);
  slot->name.set(who.name);
  slot->last_error.set(who.incarnation > 1 ? last_failure_of(who.name) : std::string());
  slot->state.store(process_slot::phase::running, std::memory_order_release);
  return slot;
}

void process_table::rename(process_slot& slot, std::string_view name) noexcept {
  const identity_change change(slot);
  slot.name.set(name);
}

void process_table::set_patience(process_slot& slot, std::chrono::nanoseconds patience) noexcept {
  slot.patience_ns.store(patience.count(), relaxed);
}

void process_table::arrived(process_slot& slot) noexcept {
  const auto number = slot.enqueued.fetch_add(1, relaxed);
  slot.arrivals[number % process_slot::stamps].store(stamp_of(number, now()), relaxed);
  // Its own message in hand is not in the mailbox any more, but not done either.
  const auto in_hand = slot.done.load(relaxed) + (slot.started_ns.load(relaxed) != 0 ? 1 : 0);
  if (number + 1 <= in_hand) return;
  const auto depth = number + 1 - in_hand;
  auto high = slot.high_water.load(relaxed);
  while (depth > high && !slot.high_water.compare_exchange_weak(high, depth, relaxed)) {
  }
}

void process_table::begin(process_slot& slot, const message_kind& kind) noexcept {
  const auto time = now();
  if (kind.from != message_kind::origin::start) {
    auto& w = window_at(slot, time);
    w.waiting.add(waited(slot, slot.done.load(relaxed), time));
  }
  slot.current.set(kind);
  slot.thread.store(this_thread(), relaxed);
  slot.started_ns.store(std::max<std::int64_t>(time, 1), std::memory_order_release);
}

void process_table::end(process_slot& slot, bool consumed) noexcept {
  const auto time = now();
  const auto took = time - slot.started_ns.load(relaxed);
  const auto kind = slot.current.get();
  slot.started_ns.store(0, std::memory_order_release);
  auto& w = window_at(slot, time);
  add_own(w.busy_ns, std::min(took, window_ns));
  if (!consumed) return;
  w.handling.add(took);
  if (kind.from == message_kind::origin::start) return;
  add_own<std::uint64_t>(w.done, 1);
  auto& entry = slot.last[slot.done.load(relaxed) % process_slot::kept_messages];
  entry.kind.set(kind);
  entry.took_ns.store(took, relaxed);
  entry.ended_ns.store(std::max<std::int64_t>(time, 1), relaxed);
  slot.done.store(slot.done.load(relaxed) + 1, std::memory_order_release);
}

void process_table::ended(process_slot& slot, const std::string& reason) {
  slot.state.store(process_slot::phase::ended, std::memory_order_release);
  if (reason.empty()) return;
  process_failure failure{slot.id.load(relaxed), slot.name.get(), slot.incarnation.load(relaxed), reason,
                          std::chrono::system_clock::now()};
  const std::lock_guard lock(failures_mutex_);
  failures_.push_back(std::move(failure));
  if (failures_.size() > kept_failures) failures_.pop_front();
}

void process_table::remove(process_slot& slot) noexcept {
  slot.state.store(process_slot::phase::free, std::memory_order_release);
  auto head = free_.load(relaxed);
  do slot.next_free.store(static_cast<std::uint32_t>(head), relaxed);
  while (
      !free_.compare_exchange_weak(head, changed(head, slot.place + 1), std::memory_order_acq_rel, relaxed));
}

std::string process_table::last_failure_of(std::string_view name) const {
  const std::lock_guard lock(failures_mutex_);
  const auto found = std::find_if(failures_.rbegin(), failures_.rend(),
                                  [&](const process_failure& f) { return f.name == name; });
  return found == failures_.rend() ? std::string() : found->reason;
}

std::optional<process_record> process_table::read(const process_slot& slot, std::int64_t time) const {
  const auto version = slot.version.load(std::memory_order_acquire);
  if ((version & 1) != 0 || slot.state.load(std::memory_order_acquire) != process_slot::phase::running)
    return std::nullopt;
  process_record r;
  r.id = slot.id.load(relaxed);
  r.parent = slot.parent.load(relaxed);
  r.name = slot.name.get();
  r.age_ns = time - slot.spawned_ns.load(relaxed);
  r.incarnation = slot.incarnation.load(relaxed);
  r.supervised = slot.supervised.load(relaxed);
  r.last_error = slot.last_error.get();
  r.high_water = slot.high_water.load(relaxed);
  r.patience_ns = slot.patience_ns.load(relaxed);

  r.done = slot.done.load(std::memory_order_acquire);
  const auto started = slot.started_ns.load(std::memory_order_acquire);
  r.enqueued = slot.enqueued.load(relaxed);
  r.thread = slot.thread.load(relaxed);
  if (started != 0) {
    r.current = slot.current.get();
    r.running_ns = std::max<std::int64_t>(time - started, 1);
  }
  const bool in_hand = started != 0 && r.current.from != message_kind::origin::start;
  const auto taken = r.done + (in_hand ? 1 : 0);
  if (r.enqueued > taken) {
    r.depth = r.enqueued - taken;
    r.oldest_wait_ns = waited(slot, taken, time);
  }
  read_windows(slot, time, r);
  read_last(slot, time, r);

  // The slot may have changed hands meanwhile: then these were two actors' figures.
  std::atomic_thread_fence(std::memory_order_acquire);
  if (slot.version.load(relaxed) != version) return std::nullopt;
  return r;
}

std::vector<process_record> process_table::read() const {
  std::vector<process_record> records;
  const auto time = now();
  for (const auto& place : slots_) {
    const auto* slot = place.load(std::memory_order_acquire);
    if (slot == nullptr) continue;
    if (auto record = read(*slot, time)) records.push_back(std::move(*record));
  }
  std::sort(records.begin(), records.end(),
            [](const process_record& a, const process_record& b) { return a.id < b.id; });
  return records;
}

std::optional<stuck_actor> process_table::longest_stuck(
    std::chrono::nanoseconds limit, std::initializer_list<std::string_view> except) const {
  std::optional<stuck_actor> longest;
  auto least = std::chrono::nanoseconds(limit).count();
  const auto time = now();
  for (const auto& place : slots_) {
    const auto* slot = place.load(std::memory_order_acquire);
    if (slot == nullptr) continue;
    const auto version = slot->version.load(std::memory_order_acquire);
    if ((version & 1) != 0 || slot->state.load(std::memory_order_acquire) != process_slot::phase::running)
      continue;
    const auto done = slot->done.load(std::memory_order_acquire);
    const auto started = slot->started_ns.load(std::memory_order_acquire);
    const auto stuck = started != 0                          ? time - started
                       : slot->enqueued.load(relaxed) > done ? waited(*slot, done, time)
                                                             : 0;
    if (stuck < least) continue;
    auto name = slot->name.get();
    if (std::find(except.begin(), except.end(), name) != except.end()) continue;
    stuck_actor found{slot->id.load(relaxed), std::move(name), done, stuck};
    std::atomic_thread_fence(std::memory_order_acquire);
    if (slot->version.load(relaxed) != version) continue;  // another one's by now
    least = stuck;
    longest = std::move(found);
  }
  return longest;
}

std::vector<process_failure> process_table::failures() const {
  const std::lock_guard lock(failures_mutex_);
  return {failures_.begin(), failures_.end()};
}

}  // namespace bitnet::actors
