#pragma once

#include "http/connection.hpp"

namespace bitnet::http {

/// An API request from its header to the end of its response. Only for connection's own sources.
struct connection::exchange_state {
  api_request request;  ///< moved from when the API starts
  std::string method;   ///< as sent
  std::string target;
  std::string request_id;
  admission place;   ///< held until the response's end
  header_list cors;  ///< what the response must carry for the page that asks
  bool http_1_0 = false;
  bool keep_alive = true;
  bool head_only = false;

  std::shared_ptr<response_channel> channel;
  std::unique_ptr<api_exchange> handle;
  time_point started;
  unsigned status = 0;  ///< 0: no head sent
  bool chunked = false;
  std::uint64_t body_bytes = 0;
  exchange_facts facts;
  std::size_t payload_in_output = 0;  ///< counted in the channel, not yet taken by the socket
};

}  // namespace bitnet::http
