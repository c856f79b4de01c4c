#include "apps/bitnet_server/model_answers.hpp"

#include "apps/bitnet_server/api_answers.hpp"
#include "http/openai/request.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace bitnet::apps {

namespace openai = http::openai;

namespace {

/// What is refused is refused within this time.
constexpr std::chrono::milliseconds shortest_wait{500};
constexpr std::chrono::seconds unload_timeout{10};

openai::api_error describe_failure(const actors::failure& failure) {
  using actors::error_code;
  auto e = to_api_error(failure);
  const auto set = [&e](unsigned status, const char* type) {
    e.status = status;
    e.type = type;
  };
  switch (failure.code) {
    case error_code::invalid_request:
      e.param = "path";
      break;
    case error_code::models_fixed:
    case error_code::path_not_allowed:
      set(403, "permission_error");
      break;
    case error_code::file_not_found:
    case error_code::model_not_found:
      set(404, "not_found_error");
      break;
    case error_code::change_in_progress:
      set(409, "invalid_request_error");
      break;
    case error_code::file_malformed:
    case error_code::unsupported_model:
      set(422, "invalid_request_error");
      break;
    default:
      break;
  }
  return e;
}

/// What failed is not to be tried again by a client's own loop: a load costs minutes and gigabytes.
void respond_failure(http::response_writer& writer, const openai::api_error& error) {
  writer.respond(error.status, {{"Content-Type", "application/json"}, {"x-should-retry", "false"}},
                 openai::render_error(error));
}

}  // namespace

openai::model_entry describe(const engine::model& model) {
  return {model.id, model.created, "bitnet-server", model.config().context_length};
}

void answer_load(caf::event_based_actor* self, const actors::model_supervisor_actor& models,
                 const std::string& body, const std::shared_ptr<http::response_writer>& writer) {
  const auto request = openai::parse_load_request(body);
  if (!request) return respond_error(*writer, request.error());
  if (!models) return respond_error(*writer, no_model_yet());
  const auto wait = std::max(
      shortest_wait, std::chrono::milliseconds(static_cast<std::int64_t>(request->timeout_seconds * 1000)));
  self->request(models, wait, actors::load_atom::value, request->path)
      .then(
          [writer](const actors::loaded_model& loaded) {
            respond_json(*writer, openai::render_model(describe(*loaded.model)));
          },
          [writer, path = request->path](const caf::error& error) {
            if (error == caf::sec::request_timeout)
              writer->respond(202, {{"Content-Type", "application/json"}},
                              openai::render_model_loading(path));
            else
              respond_failure(*writer, describe_failure(actors::describe(error)));
          });
}

void answer_unload(caf::event_based_actor* self, const actors::model_supervisor_actor& models,
                   const std::string& id, const std::shared_ptr<http::response_writer>& writer) {
  if (!models) return respond_error(*writer, no_model_yet());
  self->request(models, unload_timeout, actors::unload_atom::value, id)
      .then([writer](const std::string& name) { respond_json(*writer, openai::render_model_deleted(name)); },
            [writer](const caf::error& error) {
              respond_failure(*writer, describe_failure(actors::describe(error)));
            });
}

}  // namespace bitnet::apps
