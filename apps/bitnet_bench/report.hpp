#pragma once

#include "apps/bitnet_bench/limits.hpp"
#include "apps/bitnet_bench/measure.hpp"

#include <boost/json/object.hpp>

#include <optional>
#include <string>

namespace bitnet::apps::bench {

/// One combination of options and what was measured.
struct run_report {
  const engine::model& model;
  const options& chosen;
  double load_seconds = 0;
  measurement measured;
  std::optional<machine_limits> limits;  ///< the greater of before and after
};

boost::json::object to_json(const run_report& run);
std::string to_text(const run_report& run);

}  // namespace bitnet::apps::bench
