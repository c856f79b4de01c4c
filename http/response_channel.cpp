#include "http/response_channel.hpp"

#include <utility>

namespace bitnet::http {

namespace {

/// Frees a chain without recursion: a stream may have queued many events.
void free_chain(std::unique_ptr<response_event> event) noexcept {
  while (event) event = std::move(event->next);
}

class channel_writer final : public response_writer {
 public:
  explicit channel_writer(std::shared_ptr<response_channel> channel) : channel_{std::move(channel)} {}

  ~channel_writer() override {
    if (finished_.load(std::memory_order_acquire)) return;
    try {
      push(response_event::kind::abandoned);
    } catch (...) {
      // No memory for the event: the connection's own deadlines have to do.
    }
  }

  void respond(unsigned status, header_list headers, std::string body) override {
    finished_.store(true, std::memory_order_release);
    push(response_event::kind::respond, status, std::move(headers), std::move(body));
  }

  void begin_stream(unsigned status, header_list headers) override {
    push(response_event::kind::begin_stream, status, std::move(headers));
  }

  void write(std::string bytes) override {
    if (!bytes.empty()) push(response_event::kind::write, 0, {}, std::move(bytes));
  }

  void end_stream() override {
    finished_.store(true, std::memory_order_release);
    push(response_event::kind::end_stream);
  }

  void describe(const exchange_facts& facts) override {
    auto event = std::make_unique<response_event>();
    event->what = response_event::kind::describe;
    event->facts = facts;
    channel_->push(std::move(event));
  }

  std::size_t unsent_bytes() const noexcept override { return channel_->unsent_bytes(); }

 private:
  void push(response_event::kind what, unsigned status = 0, header_list headers = {},
            std::string bytes = {}) {
    auto event = std::make_unique<response_event>();
    event->what = what;
    event->status = status;
    event->headers = std::move(headers);
    event->bytes = std::move(bytes);
    channel_->push(std::move(event));
  }

  std::shared_ptr<response_channel> channel_;
  std::atomic<bool> finished_{false};
};

}  // namespace

response_channel::response_channel(std::function<void()> wake) : wake_{std::move(wake)} {}

response_channel::~response_channel() {
  free_chain(take());
}

void response_channel::push(std::unique_ptr<response_event> event) noexcept {
  if (closed_.load(std::memory_order_acquire)) return;
  unsent_.fetch_add(event->bytes.size(), std::memory_order_relaxed);
  auto* const fresh = event.release();
  auto* older = newest_.load(std::memory_order_relaxed);
  do {
    fresh->next.release();
    fresh->next.reset(older);
  } while (
      !newest_.compare_exchange_weak(older, fresh, std::memory_order_release, std::memory_order_relaxed));
  // Not the first since the last take(): the connection has been woken already.
  if (older != nullptr) return;
  try {
    wake_();
  } catch (...) {
    // No memory to post: the connection also looks at every deadline check.
  }
}

std::unique_ptr<response_event> response_channel::take() noexcept {
  std::unique_ptr<response_event> newest{newest_.exchange(nullptr, std::memory_order_acquire)};
  std::unique_ptr<response_event> reversed;
  while (newest) {
    auto older = std::move(newest->next);
    newest->next = std::move(reversed);
    reversed = std::move(newest);
    newest = std::move(older);
  }
  return reversed;
}

void response_channel::close() noexcept {
  closed_.store(true, std::memory_order_release);
  free_chain(take());
}

std::shared_ptr<response_writer> make_writer(std::shared_ptr<response_channel> channel) {
  return std::make_shared<channel_writer>(std::move(channel));
}

}  // namespace bitnet::http
