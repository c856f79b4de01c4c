#include "actors/introspection/stream_board.hpp"

#include <algorithm>
#include <utility>

namespace bitnet::actors {

void stream_record::add_tokens(std::uint64_t count, std::chrono::steady_clock::time_point now) noexcept {
  if (count == 0) return;
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch()).count();
  if (first_token_ns.load(std::memory_order_relaxed) == 0)
    first_token_ns.store(ns, std::memory_order_relaxed);
  last_token_ns.store(ns, std::memory_order_relaxed);
  generated_tokens.fetch_add(count, std::memory_order_relaxed);
}

stream_board::entry::entry(std::shared_ptr<stream_board> board, std::shared_ptr<stream_record> record)
    : board_(std::move(board)), record_(std::move(record)) {}

stream_board::entry::~entry() {
  if (!board_) return;
  const std::lock_guard lock(board_->mutex_);
  board_->streams_.erase(record_->request);
}

stream_board::entry& stream_board::entry::operator=(entry&& other) noexcept {
  std::swap(board_, other.board_);
  std::swap(record_, other.record_);
  return *this;
}

stream_board::entry stream_board::add(std::shared_ptr<stream_board> board,
                                      std::shared_ptr<stream_record> record) {
  {
    const std::lock_guard lock(board->mutex_);
    board->streams_[record->request] = record;
  }
  return {std::move(board), std::move(record)};
}

std::vector<std::shared_ptr<const stream_record>> stream_board::streams() const {
  std::vector<std::shared_ptr<const stream_record>> all;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, record] : streams_) all.push_back(record);
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a->request < b->request; });
  return all;
}

std::shared_ptr<const stream_record> stream_board::find(std::uint64_t request) const {
  const std::lock_guard lock(mutex_);
  const auto found = streams_.find(request);
  return found == streams_.end() ? nullptr : found->second;
}

}  // namespace bitnet::actors
