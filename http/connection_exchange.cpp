#include "http/answer.hpp"
#include "http/connection.hpp"
#include "http/exchange_state.hpp"

#include <utility>

// The part of a connection that works with the API: from the complete request to the end of its response.

namespace bitnet::http {

void connection::start_exchange(time_point now) {
  auto& x = *exchange_;
  phase_ = phase::exchange;
  deadline_ = time_point::max();
  x.started = now;
  x.channel = std::make_shared<response_channel>(origin_.wake);
  auto request = std::move(x.request);
  request.client_address = origin_.remote_address;
  try {
    x.handle = environment_.api.start(std::move(request), make_writer(x.channel));
  } catch (...) {
    // The writer has been destroyed, unless someone kept it; either way its events do not count any more.
    x.channel->close();
    x.channel = std::make_shared<response_channel>(origin_.wake);
    make_writer(x.channel).reset();
  }
}

void connection::collect(time_point now) {
  if (phase_ == phase::exchange) {
    for (auto event = exchange_->channel->take(); event; event = std::move(event->next)) {
      if (phase_ == phase::exchange) apply(*event, now);
    }
  }
  if (phase_ == phase::exchange && exchange_->status != 0 &&
      exchange_->channel->unsent_bytes() > environment_.limits.unsent_bytes) {
    end_exchange(false, now);
  }
  if (phase_ == phase::header && !input_.empty()) process_buffered(now);
  settle(now);
}

void connection::apply(response_event& event, time_point now) {
  auto& x = *exchange_;
  const auto size = event.bytes.size();
  switch (event.what) {
    case response_event::kind::respond:
      if (x.status != 0) break;
      send_head(event.status, &event.headers, size);
      if (!x.head_only && allows_body(event.status)) {
        output_ += event.bytes;
        x.body_bytes = size;
      }
      end_exchange(true, now);
      return;
    case response_event::kind::begin_stream:
      if (x.status == 0) send_head(event.status, &event.headers, std::nullopt);
      break;
    case response_event::kind::write:
      if (x.status == 0 || x.head_only || !allows_body(x.status)) break;
      if (x.chunked) {
        append_chunk(event.bytes, output_);
      } else {
        output_ += event.bytes;
      }
      x.body_bytes += size;
      x.payload_in_output += size;
      return;
    case response_event::kind::end_stream:
      if (x.status == 0) break;
      if (x.chunked && !x.head_only && allows_body(x.status)) output_ += "0\r\n\r\n";
      end_exchange(true, now);
      return;
    case response_event::kind::describe:
      x.facts = event.facts;
      return;
    case response_event::kind::abandoned:
      if (x.status == 0) {
        const protocol_error lost{500, "no_response", "The server dropped the request without an answer."};
        const header_list none;
        const auto body = error_body(lost);
        send_head(lost.status, &none, body.size());
        if (!x.head_only) output_ += body;
        x.body_bytes = body.size();
        end_exchange(true, now);
      } else {
        end_exchange(false, now);
      }
      return;
  }
  x.channel->count_sent(size);
}

void connection::send_head(unsigned status, const header_list* headers, std::optional<std::uint64_t> length) {
  auto& x = *exchange_;
  if (status < 200 || status > 599) status = 500;
  const bool stream = !length.has_value();
  x.status = status;
  x.chunked = stream && !x.http_1_0 && allows_body(status);
  // A stream to an HTTP/1.0 client ends with the connection.
  x.keep_alive = x.keep_alive && !must_close() && !environment_.draining.load(std::memory_order_relaxed) &&
                 !(stream && x.http_1_0);
  response_head head;
  head.status = status;
  head.headers = headers;
  head.more_headers = &x.cors;
  head.content_length = length;
  head.chunked = x.chunked;
  head.keep_alive = x.keep_alive;
  head.http_1_0 = x.http_1_0;
  head.request_id = x.request_id;
  append_head(head, output_);
}

void connection::end_exchange(bool completed, time_point now) {
  const auto exchange = std::move(exchange_);
  exchange->channel->close();
  if (!completed && exchange->handle) exchange->handle->cancel();
  if (environment_.log) {
    access_record record;
    record.remote_address = origin_.remote_address;
    record.method = exchange->method;
    record.target = exchange->target;
    record.request_id = exchange->request_id;
    record.client = exchange->place.name();
    record.status = exchange->status;
    record.response_bytes = exchange->body_bytes;
    record.duration = std::chrono::duration_cast<std::chrono::microseconds>(now - exchange->started);
    record.completed = completed;
    record.facts = exchange->facts;
    environment_.log(record);
  }
  if (completed) {
    end_response(exchange->keep_alive);
  } else {
    // Without a proper end: the client must not take what it has for the whole.
    phase_ = phase::closed;
    cut_off_ = true;
  }
}

}  // namespace bitnet::http
