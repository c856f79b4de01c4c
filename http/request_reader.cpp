#include "http/request_reader.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace bitnet::http {

namespace beast = boost::beast;

namespace {

std::string to_string(beast::string_view text) {
  return {text.data(), text.size()};
}

std::string lower_case(beast::string_view text) {
  auto out = to_string(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

protocol_error describe(const beast::error_code& error, std::size_t header_bytes, std::size_t body_bytes) {
  if (error == beast::http::error::header_limit) {
    return {431, "header_too_large", fmt::format("Request line and headers exceed {} bytes.", header_bytes)};
  }
  if (error == beast::http::error::body_limit || error == beast::http::error::buffer_overflow) {
    return {413, "body_too_large", fmt::format("The request body exceeds {} bytes.", body_bytes)};
  }
  if (error == beast::http::error::bad_version) {
    return {505, "http_version_not_supported", "The request line names no HTTP/1.0 or HTTP/1.1 version."};
  }
  return {400, "malformed_request", fmt::format("The request is not valid HTTP/1.1: {}.", error.message())};
}

}  // namespace

struct request_reader::state {
  beast::http::request_parser<beast::http::string_body> parser;
  std::size_t header_bytes;
  std::size_t body_bytes;
  std::size_t least_input = 1;
  bool header_seen = false;
  request_header header;
  protocol_error failure;

  std::optional<protocol_error> check_header();
  step fail(protocol_error error) {
    failure = std::move(error);
    return step::failed;
  }
};

request_reader::request_reader(std::size_t header_bytes, std::size_t body_bytes)
    : state_{std::make_unique<state>()} {
  state_->header_bytes = header_bytes;
  state_->body_bytes = body_bytes;
  state_->parser.header_limit(static_cast<std::uint32_t>(header_bytes));
  state_->parser.body_limit(body_bytes);
  state_->parser.eager(false);
}

request_reader::~request_reader() = default;

std::optional<protocol_error> request_reader::state::check_header() {
  const auto& message = parser.get();
  header.method = to_string(message.method_string());
  header.target = to_string(message.target());
  header.http_1_0 = message.version() == 10;
  // Not the message's: that looks at the first Connection header only.
  header.keep_alive = parser.keep_alive();
  header.has_body = !parser.is_done();
  std::size_t hosts = 0, codings = 0;
  for (const auto& field : message) {
    header.fields.emplace_back(lower_case(field.name_string()), to_string(field.value()));
    switch (field.name()) {
      case beast::http::field::host:
        ++hosts;
        break;
      case beast::http::field::transfer_encoding:
        ++codings;
        if (!beast::iequals(field.value(), "chunked")) {
          return protocol_error{501, "unsupported_transfer_coding",
                                "The only transfer coding understood is chunked; send it alone."};
        }
        break;
      case beast::http::field::expect:
        if (!beast::iequals(field.value(), "100-continue")) {
          return protocol_error{417, "unknown_expectation", "The only expectation met is 100-continue."};
        }
        header.expects_continue = !header.http_1_0;
        break;
      default:
        break;
    }
  }
  if (hosts > 1 || (hosts == 0 && !header.http_1_0)) {
    return protocol_error{400, "bad_host", "An HTTP/1.1 request needs exactly one Host header."};
  }
  if (codings > 1 || (codings == 1 && header.http_1_0)) {
    return protocol_error{400, "bad_transfer_encoding", "HTTP/1.1 allows one Transfer-Encoding, 1.0 none."};
  }
  return std::nullopt;
}

request_reader::step request_reader::put(std::string_view input, std::size_t& consumed) {
  auto& s = *state_;
  consumed = 0;
  if (s.header_seen && s.parser.is_done()) return step::done;
  if (input.size() < s.least_input) return step::need_more;
  beast::error_code error;
  consumed = s.parser.put(boost::asio::buffer(input.data(), input.size()), error);
  if (error && error != beast::http::error::need_more) {
    return s.fail(describe(error, s.header_bytes, s.body_bytes));
  }
  if (!s.header_seen) {
    if (!s.parser.is_header_done()) return step::need_more;
    s.header_seen = true;
    if (auto refused = s.check_header()) return s.fail(std::move(*refused));
    s.parser.eager(true);
    return step::header_done;
  }
  if (s.parser.is_done()) return step::done;
  const auto left = input.size() - consumed;
  if (left > s.header_bytes) {
    return s.fail({400, "malformed_request", "A chunk header or trailer is too long."});
  }
  // What is left is an incomplete chunk header; with a body's end inside, it has at least five octets
  // ("0\r\n\r\n"), and Beast asserts that it is not called again with fewer.
  s.least_input = left == 0 ? 1 : 5;
  return step::need_more;
}

request_header& request_reader::header() {
  return state_->header;
}

std::string request_reader::take_body() {
  return std::move(state_->parser.get().body());
}

const protocol_error& request_reader::failure() const {
  return state_->failure;
}

}  // namespace bitnet::http
