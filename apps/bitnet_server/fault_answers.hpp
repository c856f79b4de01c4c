#pragma once

#include "actors/fault_injection.hpp"
#include "http/openai/api_error.hpp"
#include "http/ports.hpp"

#include <string>

namespace bitnet::apps {

inline constexpr const char* faults_path = "/debug/faults";

/// GET lists the faults, POST {"fault": name, parameter: value, ...} causes one; both answer JSON. Blocks as
/// long as the fault's handler does.
http::openai::api_result<std::string> answer_faults(const http::api_request& request,
                                                    const actors::fault_injection& faults);

}  // namespace bitnet::apps
