#pragma once

#include "http/ports.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bitnet::http {

/// The head of a response of ours (probe answers are rendered elsewhere).
struct response_head {
  unsigned status = 200;
  const header_list* headers = nullptr;  ///< null: none; those that frame the message are ours, and skipped
  const header_list* more_headers = nullptr;    ///< likewise
  std::optional<std::uint64_t> content_length;  ///< empty: a stream
  bool chunked = false;
  bool keep_alive = true;
  bool http_1_0 = false;
  std::string_view request_id;  ///< empty: none
};

/// Appends status line and headers, up to and with the empty line. Adds Date, the framing headers, and
/// for text/event-stream what keeps proxies from buffering. Headers that contain line breaks are dropped.
void append_head(const response_head& head, std::string& out);

/// Appends one chunk of a chunked body; nothing for an empty `data`, which would end the body.
void append_chunk(std::string_view data, std::string& out);

/// Whether a response with this status has a body at all (RFC 9110, 6.4.1).
bool allows_body(unsigned status) noexcept;

/// An error of the protocol, as the OpenAI error object.
struct protocol_error {
  unsigned status = 400;
  std::string_view code;  ///< for programs, for example "header_too_large"
  std::string message;    ///< for people
};

/// {"error":{"message","type","param":null,"code"}}; the type follows from the status.
std::string error_body(const protocol_error& error);

/// Text from outside made fit for a message: visible ASCII, at most 128 characters.
std::string printable(std::string_view text);

}  // namespace bitnet::http
