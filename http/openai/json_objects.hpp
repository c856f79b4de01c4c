#pragma once

#include "http/openai/response.hpp"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <string_view>

// Parts that several answers share. Member order is the order of insertion.

namespace bitnet::http::openai {

boost::json::string json_text(std::string_view text);
boost::json::string json_name(finish_reason finish);
boost::json::object usage_object(const usage_counts& usage);

/// {"tokens","token_logprobs","top_logprobs","text_offset"} of a completion, or null.
boost::json::value completion_logprobs(const std::optional<std::vector<token_record>>& records);
/// {"content":[{"token","logprob","bytes","top_logprobs"}],"refusal":null} of a chat, or null.
boost::json::value chat_logprobs(const std::optional<std::vector<token_record>>& records);

/// {"id","object","created","model"}
boost::json::object identity_object(const response_identity& identity, std::string_view object);

/// The event that carries `object`.
std::string stream_event(const boost::json::object& object);

}  // namespace bitnet::http::openai
