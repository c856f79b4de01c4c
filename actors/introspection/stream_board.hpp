#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace bitnet::actors {

/// One sequence that a client waits for, as its exchange shows it. The exchange writes, any thread reads.
struct stream_record {
  std::uint64_t request = 0;  ///< the router's id: what `cancel` names
  std::string answer;         ///< id that the client sees in its answer
  std::string kind;           ///< "completion" or "chat"
  bool streamed = false;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t max_tokens = 0;
  std::uint64_t exchange = 0;  ///< id of the actor that serves the client; 0: unknown
  std::chrono::steady_clock::time_point started{};

  std::atomic<std::uint64_t> generated_tokens{0};
  std::atomic<std::int64_t> first_token_ns{0};  ///< steady clock; 0: none yet
  std::atomic<std::int64_t> last_token_ns{0};

  void add_tokens(std::uint64_t count, std::chrono::steady_clock::time_point now) noexcept;
};

/// The sequences in flight. Any thread; a short lock at begin, end and listing, none for a token.
class stream_board {
 public:
  /// Takes the record off the board when it is destroyed.
  class entry {
   public:
    entry() = default;
    entry(std::shared_ptr<stream_board> board, std::shared_ptr<stream_record> record);
    ~entry();
    entry(entry&&) noexcept = default;
    entry& operator=(entry&& other) noexcept;

    void add_tokens(std::uint64_t count, std::chrono::steady_clock::time_point now) noexcept {
      if (record_) record_->add_tokens(count, now);
    }

   private:
    std::shared_ptr<stream_board> board_;
    std::shared_ptr<stream_record> record_;
  };

  static entry add(std::shared_ptr<stream_board> board, std::shared_ptr<stream_record> record);

  /// By request id.
  std::vector<std::shared_ptr<const stream_record>> streams() const;
  std::shared_ptr<const stream_record> find(std::uint64_t request) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::shared_ptr<stream_record>> streams_;
};

}  // namespace bitnet::actors
