#pragma once

#include "engine/decode_weights.hpp"
#include "engine/model_config.hpp"
#include "kernels/instruction_set.hpp"
#include "kernels/matrix.hpp"

#include <tl/expected.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace bitnet::apps::bench {

/// One measurement.
struct options {
  std::string model;
  std::size_t prompt_tokens = 128;
  std::size_t generate_tokens = 32;
  std::size_t batch = 1;
  std::size_t threads = 0;  ///< 0: see engine::thread_count
  std::size_t repetitions = 3;
  std::size_t prefill_chunk = 256;
  kernels::instruction_set kernels = kernels::best_instruction_set();
  kernels::head_matrix::format head = kernels::head_matrix::format::int8;
  bool screen_head = false;  ///< head is int8, and few tokens are chosen among a screen's candidates
  engine::decode_format decode = engine::decode_format::automatic;
  std::string device = "cpu";  ///< cpu, auto, cuda or cuda:N
  bool json = false;
  bool profile = false;
  bool limits = false;  ///< measure the machine's limits beside it
  bool help = false;
  std::vector<engine::token_id> logits_of;  ///< not empty: print the logits of these tokens instead of timing
};

/// Reads the command line: one entry a combination of the values given, never empty; they differ in lengths,
/// batch and threads only. The error is one sentence that names the option.
tl::expected<std::vector<options>, std::string> parse(int argc, char** argv);

std::string usage();

}  // namespace bitnet::apps::bench
