#include "apps/bitnet_server/api.hpp"

#include "apps/bitnet_server/api_answers.hpp"
#include "apps/bitnet_server/completion_exchange.hpp"
#include "apps/bitnet_server/fault_answers.hpp"
#include "apps/bitnet_server/model_answers.hpp"
#include "http/openai/openapi.hpp"
#include "http/openai/request.hpp"
#include "http/openai/response.hpp"

#include <caf/all.hpp>

#include <functional>
#include <optional>
#include <string_view>
#include <utility>

namespace bitnet::apps {

namespace openai = http::openai;

namespace {

constexpr std::string_view models_prefix = "/v1/models/";
constexpr std::string_view load_path = "/v1/models/load";
constexpr const char* cluster_path = "/cluster";

/// The client's hold on an actor that works for it.
class actor_exchange : public http::api_exchange {
 public:
  explicit actor_exchange(caf::actor worker) : worker_(std::move(worker)) {}
  ~actor_exchange() override { cancel(); }

  // To an actor that has ended already this does nothing.
  void cancel() noexcept override { caf::anon_send_exit(worker_, caf::exit_reason::user_shutdown); }

 private:
  caf::actor worker_;
};

/// Requests that need the model at most, no generation. Each returns the JSON body.
openai::api_result<std::string> answer(const http::api_request& request, const engine::model* model) {
  if (request.path == "/openapi.json") return std::string{openai::openapi_document()};
  if (request.path == "/v1/models")
    return openai::render_model_list(model == nullptr ? std::vector<openai::model_entry>{}
                                                      : std::vector{describe(*model)});
  if (model == nullptr) return tl::unexpected(no_model_yet());
  if (request.path.starts_with(models_prefix)) {
    const auto name = std::string_view{request.path}.substr(models_prefix.size());
    if (auto wrong = check_model_name(name, *model)) return tl::unexpected(*wrong);
    return openai::render_model(describe(*model));
  }
  if (request.path == "/tokenize")
    return openai::parse_tokenize_request(request.body).and_then([&](const openai::tokenize_request& r) {
      if (auto wrong = check_model_name(r.model, *model))
        return openai::api_result<std::string>{tl::unexpect, *wrong};
      auto ids = model->tokens->encode(r.text, r.parse_special);
      if (const auto bos = model->tokens->bos(); r.add_special && bos) ids.insert(ids.begin(), *bos);
      return openai::api_result<std::string>{openai::render_tokens(ids)};
    });
  return openai::parse_detokenize_request(request.body).and_then([&](const openai::detokenize_request& r) {
    if (auto wrong = check_model_name(r.model, *model))
      return openai::api_result<std::string>{tl::unexpect, *wrong};
    for (const auto id : r.tokens)
      if (id >= model->tokens->size())
        return openai::api_result<std::string>{
            tl::unexpect,
            openai::bad_request("tokens", openai::codes::invalid_value,
                                "token id " + std::to_string(id) + " is not in the vocabulary")};
    return openai::api_result<std::string>{openai::render_detokenized(model->tokens->decode(r.tokens))};
  });
}

/// An actor that causes or lists faults, and ends. Detached: a fault may take its time.
void answer_fault(actors::instrumented_actor* self, const std::shared_ptr<actors::fault_injection>& faults,
                  const http::api_request& request, const std::shared_ptr<http::response_writer>& writer) {
  self->set_process_name("api " + request.path);
  const auto body = answer_faults(request, *faults);
  if (body)
    respond_json(*writer, *body);
  else
    respond_error(*writer, body.error());
}

std::optional<completion_kind> kind_of(std::string_view path) {
  if (path == "/v1/completions") return completion_kind::text;
  if (path == "/v1/chat/completions") return completion_kind::chat;
  if (path == "/v1/inference") return completion_kind::inference;
  return std::nullopt;
}

/// Clients are told apart by their key, and without one by their address.
std::uint64_t client_of(const http::api_request& request) {
  return std::hash<std::string>{}(request.client.empty() ? request.client_address : request.client);
}

/// An actor that answers and ends.
void answer_once(actors::instrumented_actor* self, const std::shared_ptr<api_context>& context,
                 const http::api_request& request, const std::shared_ptr<http::response_writer>& writer) {
  self->set_process_name("api " + request.path);
  const auto served = context->service.model();
  const auto body = answer(request, served ? served->model.get() : nullptr);
  if (body)
    respond_json(*writer, *body);
  else
    respond_error(*writer, body.error());
}

/// The cluster actor makes the document; an actor of its own waits for it.
void answer_cluster(caf::event_based_actor* self, const actors::cluster_actor& cluster,
                    const std::shared_ptr<http::response_writer>& writer) {
  self->request(cluster, std::chrono::seconds(2), actors::status_atom_v)
      .then([writer](std::string& body) { respond_json(*writer, std::move(body)); },
            [writer](const caf::error& error) {
              respond_error(*writer, to_api_error(actors::describe(error)));
            });
}

}  // namespace

std::vector<http::api_route> api_routes(bool with_faults, bool with_cluster) {
  std::vector<http::api_route> routes{{"POST", "/v1/completions"},
                                      {"POST", "/v1/chat/completions"},
                                      {"POST", "/v1/inference"},
                                      {"GET", "/v1/models"},
                                      {"GET", "/v1/models/{id}"},
                                      {"POST", "/tokenize"},
                                      {"POST", "/detokenize"},
                                      {"GET", "/openapi.json", http::route_access::open},
                                      {"POST", "/v1/models/load", http::route_access::admin},
                                      {"DELETE", "/v1/models/{id}", http::route_access::admin}};
  if (with_cluster) routes.push_back({"GET", cluster_path, http::route_access::admin});
  if (with_faults) {
    routes.push_back({"GET", faults_path, http::route_access::admin});
    routes.push_back({"POST", faults_path, http::route_access::admin});
  }
  return routes;
}

api_dispatcher::api_dispatcher(actors::service& service, request_counters& counters, server_metrics& metrics,
                               std::chrono::milliseconds ping_period,
                               std::shared_ptr<actors::stream_board> streams,
                               std::shared_ptr<actors::fault_injection> faults)
    : context_(std::make_shared<api_context>(service, counters, metrics, ping_period, std::move(streams))),
      faults_(std::move(faults)) {}

std::unique_ptr<http::api_exchange> api_dispatcher::start(http::api_request request,
                                                          std::shared_ptr<http::response_writer> writer) {
  auto& system = context_->service.system();
  if (const auto kind = kind_of(request.path)) {
    completion_call call{*kind, std::move(request.body), client_of(request)};
    auto exchange = system.spawn(completion_exchange, context_, std::move(call), std::move(writer));
    return std::make_unique<actor_exchange>(caf::actor_cast<caf::actor>(exchange));
  }
  if (request.method == "POST" && request.path == load_path)
    return std::make_unique<actor_exchange>(
        system.spawn(answer_load, context_->service.models(), std::move(request.body), std::move(writer)));
  if (request.method == "DELETE")
    return std::make_unique<actor_exchange>(system.spawn(answer_unload, context_->service.models(),
                                                         request.path.substr(models_prefix.size()),
                                                         std::move(writer)));
  if (request.path == cluster_path)
    return std::make_unique<actor_exchange>(
        system.spawn(answer_cluster, context_->service.cluster(), std::move(writer)));
  if (faults_ && request.path == faults_path)
    return std::make_unique<actor_exchange>(
        system.spawn<caf::detached>(answer_fault, faults_, std::move(request), std::move(writer)));
  return std::make_unique<actor_exchange>(
      system.spawn(answer_once, context_, std::move(request), std::move(writer)));
}

}  // namespace bitnet::apps
