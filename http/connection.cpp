#include "http/connection.hpp"

#include "http/exchange_state.hpp"
#include "http/probe_request.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>

namespace bitnet::http {

namespace {

/// Pipelined requests wait in the input while this much output waits for the client.
constexpr std::size_t output_soft_limit = 256 * 1024;

/// A buffer above this is given back when it is empty.
constexpr std::size_t kept_capacity = 64 * 1024;

/// Connections beyond the cap are for probes, which send their request at once.
constexpr std::chrono::milliseconds probes_only_timeout{1'000};

std::string make_request_id() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return fmt::format("req-{:016x}{:08x}", generator(), static_cast<std::uint32_t>(generator()));
}

std::string find_request_id(const header_list& fields) {
  for (const auto& [name, value] : fields) {
    if (name == "x-request-id" && is_valid_request_id(value)) return value;
  }
  return make_request_id();
}

protocol_error not_found(std::string_view method, std::string_view target) {
  return {404, "not_found", fmt::format("There is no {} {} here.", printable(method), printable(target))};
}

protocol_error method_not_allowed(std::string_view method, std::string_view allow) {
  return {405, "method_not_allowed",
          fmt::format("{} is not allowed here; use {}.", printable(method), allow)};
}

}  // namespace

bool is_valid_request_id(std::string_view id) noexcept {
  return !id.empty() && id.size() <= 128 &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

connection::connection(const connection_environment& environment, origin from, time_point now)
    : environment_{environment}, origin_{std::move(from)}, last_activity_{now}, last_progress_{now} {
  // A fresh connection owes us a request; only one that has had an answer may idle.
  deadline_ = now + (origin_.probes_only ? std::min(probes_only_timeout, environment_.limits.header_timeout)
                                         : environment_.limits.header_timeout);
}

connection::~connection() {
  abort();
}

bool connection::idle() const noexcept {
  return phase_ == phase::header && reader_ == nullptr && input_.empty() && output().empty();
}

bool connection::wants_input() const noexcept {
  switch (phase_) {
    case phase::closed:
      return false;
    case phase::header:
    case phase::body:
      return output().size() < output_soft_limit;
    case phase::exchange:
      return input_.size() < environment_.limits.header_bytes;
    case phase::closing:
      return linger_;
    case phase::lingering:
      return true;
  }
  return false;
}

bool connection::must_close() const noexcept {
  return finishing_ || origin_.probes_only;
}

void connection::receive(std::string_view bytes, time_point now) {
  last_activity_ = now;
  if (phase_ == phase::closing || phase_ == phase::lingering || phase_ == phase::closed) return;
  if (input_.empty()) {
    // The common case: whole requests, never copied.
    const auto consumed = process(bytes, now);
    if (phase_ != phase::closing && phase_ != phase::closed) input_.assign(bytes.substr(consumed));
  } else {
    input_.append(bytes);
    process_buffered(now);
  }
  settle(now);
}

void connection::process_buffered(time_point now) {
  const auto consumed = process(buffered(), now);
  input_.erase(0, consumed);
  if (input_.empty() && input_.capacity() > kept_capacity) input_.shrink_to_fit();
}

std::size_t connection::process(std::string_view input, time_point now) {
  const auto given = input.size();
  while ((phase_ == phase::header || phase_ == phase::body) && output().size() < output_soft_limit) {
    if (reader_ == nullptr) {
      // RFC 9112, 2.2: empty lines in front of a request are ignored.
      while (input.starts_with("\r\n")) input.remove_prefix(2);
      if (input.empty() || input == "\r") break;
      if (process_probe(input)) continue;
      reader_ =
          std::make_unique<request_reader>(environment_.limits.header_bytes, environment_.limits.body_bytes);
      if (!origin_.probes_only) deadline_ = now + environment_.limits.header_timeout;
    }
    std::size_t consumed = 0;
    const auto step = reader_->put(input, consumed);
    input.remove_prefix(consumed);
    if (step == request_reader::step::need_more) break;
    switch (step) {
      case request_reader::step::header_done:
        process_header(now);
        if (phase_ == phase::body && exchange_->request.body.empty() && reader_->header().expects_continue &&
            reader_->header().has_body && input.empty()) {
          output_ += "HTTP/1.1 100 Continue\r\n\r\n";
        }
        break;
      case request_reader::step::done:
        exchange_->request.body = reader_->take_body();
        reader_.reset();
        start_exchange(now);
        break;
      case request_reader::step::failed:
        thread_counters::add(environment_.counters.protocol_errors_total);
        answer_error(reader_->failure(), false);
        exchange_.reset();
        close_after_output(true);
        break;
      case request_reader::step::need_more:
        break;
    }
  }
  return given - input.size();
}

bool connection::process_probe(std::string_view& input) {
  probe_request request;
  const auto length = parse_probe_request(input, request);
  if (length == 0 || length > environment_.limits.header_bytes) return false;
  input.remove_prefix(length);
  thread_counters::add(environment_.counters.requests_total);
  const bool keep_alive = request.keep_alive && !must_close();
  environment_.probes.append_answer(request.which, request.head, keep_alive, output_);
  end_response(keep_alive);
  return true;
}

void connection::process_header(time_point now) {
  using namespace route_result;
  thread_counters::add(environment_.counters.requests_total);
  auto& header = reader_->header();
  // A refused request's body is not read, so the connection cannot go on behind it.
  const bool keep_alive = header.keep_alive && !header.has_body && !must_close();
  const auto refuse = [&](const protocol_error& error, const header_list& headers = {}) {
    const bool linger = header.has_body;
    answer_error(error, keep_alive, headers);
    reader_.reset();
    end_response(keep_alive);
    linger_ = linger_ || linger;
  };
  request_target target;
  if (!parse_target(header.target, target)) {
    thread_counters::add(environment_.counters.protocol_errors_total);
    return refuse(
        {400, "bad_target", fmt::format("{} is not a valid request target.", printable(header.target))});
  }
  const auto decision = route(environment_.routes, header.method, target.path);
  if (!std::holds_alternative<route_result::not_found>(decision) && answer_preflight(keep_alive)) return;
  if (const auto* const found = std::get_if<probe_route>(&decision)) {
    // HTTP/1.0 needs an explicit keep-alive, which rendered answers do not carry.
    const bool stay = keep_alive && !header.http_1_0;
    const bool linger = header.has_body;
    environment_.probes.append_answer(with_query(found->which, target.query), found->head, stay, output_);
    reader_.reset();
    end_response(stay);
    linger_ = linger_ || linger;
  } else if (const auto* const wrong = std::get_if<route_result::method_not_allowed>(&decision)) {
    header_list headers{{"Allow", wrong->allow}};
    if (wrong->is_probe) headers.emplace_back("Cache-Control", "no-store");
    refuse(http::method_not_allowed(header.method, wrong->allow), headers);
  } else if (std::holds_alternative<route_result::not_found>(decision)) {
    refuse(http::not_found(header.method, target.path));
  } else if (origin_.probes_only) {
    thread_counters::add(environment_.counters.connections_refused);
    refuse({503, "too_many_connections", "The server has reached its limit of connections; try again later."},
           {{"Retry-After", "1"}});
  } else {
    const auto needed = std::get<route_result::api>(decision).access;
    auto place = environment_.access.admit(header.fields, needed, now);
    if (!place) {
      auto headers = environment_.access.cors_headers(header.fields);
      headers.insert(headers.end(), place.error().headers.begin(), place.error().headers.end());
      return refuse(place.error().error, headers);
    }
    open_exchange(std::move(*place), std::move(target), now);
  }
}

/// The request may be made: what is left is its body.
void connection::open_exchange(admission place, request_target target, time_point now) {
  auto& header = reader_->header();
  exchange_ = std::make_unique<exchange_state>();
  auto& x = *exchange_;
  x.method = header.method;
  x.target = header.target;
  x.request_id = find_request_id(header.fields);
  x.http_1_0 = header.http_1_0;
  x.keep_alive = header.keep_alive;
  x.head_only = header.method == "HEAD";
  x.place = std::move(place);
  x.cors = environment_.access.cors_headers(header.fields);
  x.request.method = x.head_only ? "GET" : header.method;
  x.request.path = std::move(target.path);
  x.request.query = std::move(target.query);
  x.request.request_id = x.request_id;
  x.request.client = x.place.name();
  phase_ = phase::body;
  deadline_ = now + environment_.limits.body_timeout;
}

/// A web page's browser asks first whether the page may send the request that it wants to (Fetch, CORS).
bool connection::answer_preflight(bool keep_alive) {
  const auto& header = reader_->header();
  header_list allowed;
  if (!environment_.access.is_preflight(header.method, header.fields, allowed)) return false;
  response_head head;
  head.status = 204;
  head.headers = &allowed;
  head.content_length = 0;
  head.keep_alive = keep_alive;
  head.http_1_0 = header.http_1_0;
  append_head(head, output_);
  reader_.reset();
  end_response(keep_alive);
  return true;
}

void connection::answer_error(const protocol_error& error, bool keep_alive, const header_list& headers) {
  const auto body = error_body(error);
  const auto& request = reader_->header();
  response_head head;
  head.status = error.status;
  head.headers = &headers;
  head.content_length = body.size();
  head.keep_alive = keep_alive;
  head.http_1_0 = request.http_1_0;
  const auto id = exchange_ ? exchange_->request_id : find_request_id(request.fields);
  head.request_id = id;
  append_head(head, output_);
  log_refusal(error, id);
  if (request.method != "HEAD") output_ += body;
}

void connection::log_refusal(const protocol_error& error, std::string_view request_id) {
  if (!environment_.log) return;
  const auto& request = reader_->header();
  access_record record;
  record.remote_address = origin_.remote_address;
  record.method = request.method;
  record.target = request.target;
  record.request_id = request_id;
  record.status = error.status;
  environment_.log(record);
}

void connection::end_response(bool keep_alive) {
  if (!keep_alive || must_close()) {
    close_after_output(false);
    return;
  }
  phase_ = phase::header;
}

void connection::close_after_output(bool linger) {
  phase_ = phase::closing;
  linger_ = linger;
  deadline_ = time_point::max();
  input_.clear();
}

void connection::receive_eof(time_point now) {
  eof_ = true;
  switch (phase_) {
    case phase::exchange:
      // See server: a FIN while a response is pending means that nobody waits for it.
      end_exchange(false, now);
      break;
    case phase::header:
    case phase::body:
      exchange_.reset();
      close_after_output(false);
      break;
    case phase::closing:
      linger_ = false;
      break;
    case phase::lingering:
      phase_ = phase::closed;
      break;
    case phase::closed:
      break;
  }
  settle(now);
}

void connection::sent(std::size_t bytes, time_point now) {
  output_begin_ += bytes;
  last_activity_ = now;
  last_progress_ = now;
  if (exchange_ && exchange_->payload_in_output != 0) {
    auto& in_output = exchange_->payload_in_output;
    const auto taken = output_begin_ == output_.size() ? in_output : std::min(bytes, in_output);
    in_output -= taken;
    exchange_->channel->count_sent(taken);
  }
  if (output_begin_ == output_.size()) {
    output_.clear();
    output_begin_ = 0;
    if (output_.capacity() > kept_capacity) output_.shrink_to_fit();
    // The idle time starts when the client has its answer.
    if (phase_ == phase::header && reader_ == nullptr) deadline_ = now + environment_.limits.idle_timeout;
    if (phase_ == phase::header && !input_.empty()) process_buffered(now);
  } else if (output_begin_ > output_.size() / 2) {
    output_.erase(0, output_begin_);
    output_begin_ = 0;
  }
  settle(now);
}

void connection::check_deadlines(time_point now) {
  if (phase_ == phase::closed) return;
  if (!output().empty() && now - last_progress_ >= environment_.limits.write_timeout) {
    if (phase_ == phase::exchange) end_exchange(false, now);
    phase_ = phase::closed;
    return;
  }
  if (now < deadline_ || (reader_ == nullptr && !output().empty())) return;
  if (phase_ == phase::lingering || reader_ == nullptr) {
    phase_ = phase::closed;
    return;
  }
  thread_counters::add(environment_.counters.protocol_errors_total);
  const protocol_error late{408, "request_timeout",
                            phase_ == phase::body ? "The request's body did not arrive in time."
                                                  : "The request's header did not arrive in time."};
  answer_error(late, false);
  exchange_.reset();
  close_after_output(true);
  settle(now);
}

void connection::finish(time_point now) {
  finishing_ = true;
  if (phase_ == phase::header && reader_ == nullptr && input_.empty()) close_after_output(false);
  settle(now);
}

void connection::abort() noexcept {
  phase_ = phase::closed;
  if (exchange_ == nullptr) return;
  const auto exchange = std::move(exchange_);
  if (exchange->channel) exchange->channel->close();
  if (exchange->handle) exchange->handle->cancel();
}

void connection::settle(time_point now) {
  const bool has_output = !output().empty();
  if (has_output && !had_output_) last_progress_ = now;
  had_output_ = has_output;
  if (phase_ == phase::closing && !has_output) {
    if (linger_ && !eof_) {
      phase_ = phase::lingering;
      deadline_ = now + environment_.limits.linger_timeout;
    } else {
      phase_ = phase::closed;
    }
  }
}

}  // namespace bitnet::http
