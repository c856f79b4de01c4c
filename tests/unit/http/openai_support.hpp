#pragma once

#include "http/openai/request.hpp"

#include <boost/test/unit_test.hpp>
#include <fmt/core.h>

#include <string>
#include <string_view>

namespace bitnet::tests {

/// "name":value
inline std::string member(std::string_view name, std::string_view value) {
  return fmt::format("\"{}\":{}", name, value);
}

/// The request, or a failed test that shows the error.
template <class T>
T accepted(const http::openai::api_result<T>& parsed) {
  if (!parsed) BOOST_FAIL("refused: " + parsed.error().message);
  return *parsed;
}

/// Checks that the request was refused with 400 for this parameter and code.
template <class T>
void check_refused(const http::openai::api_result<T>& parsed, std::string_view param, std::string_view code) {
  BOOST_REQUIRE_MESSAGE(!parsed, "accepted, but should be refused for " << param);
  const http::openai::api_error& error = parsed.error();
  BOOST_TEST(error.status == 400U);
  BOOST_TEST(error.type == "invalid_request_error");
  BOOST_TEST(error.param.value_or("") == param);
  BOOST_TEST(error.code.value_or("") == code);
  BOOST_TEST(error.message.find(param) != std::string::npos);
}

}  // namespace bitnet::tests
