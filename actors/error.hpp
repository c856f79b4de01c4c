#pragma once

#include "engine/error.hpp"

#include <caf/atom.hpp>
#include <caf/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace bitnet::actors {

/// Why an actor refuses, or why a stream failed: the engine's reasons (same meaning, docs at
/// engine::error_code) and those of the actors. The values cross nodes: append, never renumber.
enum class error_code : std::uint8_t {
  none = 0,
  file_not_found,
  file_malformed,
  unsupported_model,
  invalid_request,
  prompt_too_long,
  out_of_kv_cache,
  queue_full,
  out_of_memory,
  internal,
  draining,             ///< the server is shutting down; another one may serve the request
  no_worker,            ///< no worker takes requests now: loading, restarting or withdrawn
  worker_lost,          ///< the worker ended with the request in flight; it can be resumed elsewhere
  overloaded,           ///< every worker is full; may work later
  request_quarantined,  ///< workers died of it: do not send it again
  models_fixed,         ///< models cannot be loaded and unloaded at run time here
  path_not_allowed,     ///< a model file outside the directories that models may come from
  change_in_progress,   ///< another model is being loaded, or an old one has not gone yet
  model_not_found,      ///< no model of that name serves
};

inline constexpr caf::atom_value error_category = caf::atom("bitnet");

std::string_view to_string(error_code code) noexcept;

/// Makes the enum usable as a caf::error of category "bitnet".
caf::error make_error(error_code code);
/// With a sentence for the client.
caf::error make_error(error_code code, std::string message);

error_code from_engine(engine::error_code code) noexcept;
caf::error make_error(const engine::error& failure);

/// What a failed response carries: our code and sentence, or for CAF's own errors the code of ours that says
/// the same to a client (a dead receiver is worker_lost, a time-out overloaded, everything else internal).
struct failure {
  error_code code = error_code::internal;
  std::string message;
};
failure describe(const caf::error& error);

/// Renders errors of our category; register with actor_system_config::add_error_category.
std::string render_error(std::uint8_t code, caf::atom_value category, const caf::message& context);

}  // namespace bitnet::actors
