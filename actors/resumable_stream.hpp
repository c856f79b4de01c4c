#pragma once

#include "actors/messages.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace bitnet::actors {

/// One request over all the workers that work on it, and what its client has had of it. Knows no actor and no
/// clock: whoever carries messages (the router of this process, a gateway between machines) tells it what
/// happened.
///
/// - Each submission is an attempt with a number of its own; frames of other attempts, and frames that came
///   already, are dropped. What the client sees is one sequence of frames without a gap.
/// - The next attempt carries the tokens so far as `emitted`. Because tokens are a function of the prompt,
/// the
///   parameters, the seed and the position, the new worker goes on with exactly the tokens that the old one
///   would have given.
/// - A request that was in a worker when it died, and had got nothing from it, may have killed it: it is a
///   suspect until it gets a token. Deaths for which there is no other explanation are counted as its own.
class resumable_stream {
 public:
  enum class phase : std::uint8_t {
    waiting,    ///< to be submitted
    submitted,  ///< not yet accepted by the worker
    running,    ///< accepted
    ended,      ///< the client has its last frame, or an answer that refuses
  };

  /// `client_attempt`: what frames to the client carry.
  resumable_stream(engine::generation_request request, std::uint32_t client_attempt)
      : request_(std::move(request)), client_attempt_(client_attempt) {}

  /// waiting -> submitted. The request to send, under attempt().
  engine::generation_request begin_attempt();

  /// submitted -> running; ignored for another attempt than the current one.
  void accept(std::uint32_t attempt);

  /// What a worker's frame means. With `forward` and `ended` the frame has been rewritten for the client, who
  /// gets it; all others are not for the client.
  enum class meaning : std::uint8_t {
    dropped,             ///< of another attempt, or here already
    forward,             ///< tokens
    ended,               ///< the last one
    worker_lost,         ///< the worker has ended: call lose() for all that it had
    frames_lost,         ///< one in between did not arrive: call lose()
    computation_failed,  ///< for the first time: call lose(), cancel it at the worker, try again later
  };
  meaning take(token_frame& frame);

  /// What the end of an attempt says about the request.
  enum class blame : std::uint8_t {
    none,    ///< the worker's end has another explanation
    shared,  ///< others were in it as well that had got nothing
    sole,    ///< nothing else was in it that had got nothing
  };
  /// submitted, running -> waiting.
  void lose(blame why);

  /// Not before `until`: -> waiting, where it is not, which is nobody's fault.
  void postpone(steady_time until);

  /// -> ended. The client's last frame where an error ends the request.
  token_frame fail(error_code code, std::string message);

  phase current() const noexcept { return phase_; }
  bool in_flight() const noexcept { return phase_ == phase::submitted || phase_ == phase::running; }
  /// In a worker that has not given it anything yet.
  bool unproven() const noexcept { return phase_ == phase::running && !progressed_; }
  bool suspect() const noexcept { return suspect_; }
  unsigned sole_blames() const noexcept { return sole_blames_; }
  std::uint32_t attempt() const noexcept { return attempt_; }
  bool first_attempt() const noexcept { return losses_ == 0; }
  steady_time not_before() const noexcept { return not_before_; }
  const engine::generation_request& request() const noexcept { return request_; }

 private:
  engine::generation_request request_;  ///< `emitted` grows with what the client has had
  std::uint32_t client_attempt_;
  std::uint32_t client_seq_ = 0;

  phase phase_ = phase::waiting;
  steady_time not_before_{};
  std::uint32_t attempt_ = 0;  ///< counted from 1
  std::uint32_t next_seq_ = 0;
  bool progressed_ = false;  ///< in this attempt
  std::uint32_t losses_ = 0;
  std::uint32_t failures_ = 0;  ///< of the computation
  bool suspect_ = false;
  unsigned sole_blames_ = 0;
  engine::generation_usage usage_;
  std::optional<std::uint32_t> cached_tokens_;  ///< of the first attempt, as without a loss
};

}  // namespace bitnet::actors
