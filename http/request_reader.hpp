#pragma once

#include "http/answer.hpp"
#include "http/ports.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace bitnet::http {

/// What the header of a request says, as far as the connection cares.
struct request_header {
  std::string method;
  std::string target;  ///< as sent
  bool http_1_0 = false;
  bool keep_alive = true;
  bool expects_continue = false;
  bool has_body = false;
  header_list fields;  ///< names in lower case; repeated ones stay apart
};

/// Reads one request from bytes that arrive piece by piece. Beast's parser, plus the checks that RFC 9112
/// asks of a server and Beast leaves out: Host, and transfer codings other than chunked.
class request_reader {
 public:
  request_reader(std::size_t header_bytes, std::size_t body_bytes);
  ~request_reader();
  request_reader(const request_reader&) = delete;
  request_reader& operator=(const request_reader&) = delete;

  enum class step {
    need_more,    ///< bytes that are not consumed must be given again, with more behind them
    header_done,  ///< once a request; call again for the body
    done,         ///< the request is complete; `consumed` ends behind it
    failed        ///< see failure(); the connection cannot go on
  };

  /// Consumes from the front of `input`. Not to be called after done or failed.
  step put(std::string_view input, std::size_t& consumed);

  /// From header_done on.
  request_header& header();
  /// Once, after done.
  std::string take_body();
  /// After failed.
  const protocol_error& failure() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace bitnet::http
