#include "http/openai/openapi.hpp"
#include "http/openai/request.hpp"
#include "http/openai/response.hpp"

#include <boost/json.hpp>
#include <boost/test/unit_test.hpp>
#include <fmt/core.h>

#include <functional>
#include <set>
#include <string>

using namespace bitnet::http::openai;
namespace json = boost::json;

namespace {

json::value document() {
  const std::string_view text = openapi_document();
  return json::parse(json::string_view(text.data(), text.size()));
}

const json::object& schema(const json::value& api, std::string_view name) {
  return api.at("components").at("schemas").at(json::string_view(name.data(), name.size())).as_object();
}

/// Members of a request schema, those of its allOf parts included.
json::object members(const json::value& api, const json::object& described) {
  json::object all;
  if (const auto* properties = described.if_contains("properties")) {
    for (const auto& [name, value] : properties->as_object()) all.emplace(name, value);
  }
  if (const auto* parts = described.if_contains("allOf")) {
    for (const json::value& part : parts->as_array()) {
      const auto* reference = part.as_object().if_contains("$ref");
      const std::string target = reference == nullptr ? "" : json::value_to<std::string>(*reference);
      const json::object& resolved =
          reference == nullptr ? part.as_object() : schema(api, target.substr(target.rfind('/') + 1));
      for (const auto& [name, value] : members(api, resolved)) all.emplace(name, value);
    }
  }
  return all;
}

/// Calls `visit` for every object in the document.
void walk(const json::value& value, const std::function<void(const json::object&)>& visit) {
  if (const auto* object = value.if_object()) {
    visit(*object);
    for (const auto& [name, child] : *object) walk(child, visit);
  } else if (const auto* array = value.if_array()) {
    for (const json::value& child : *array) walk(child, visit);
  }
}

struct documented_request {
  const char* schema;
  json::object least;  ///< a valid request
  std::function<bool(std::string_view)> accepts;
};

std::vector<documented_request> requests() {
  return {{"CompletionRequest", json::parse(R"({"prompt":"x"})").as_object(),
           [](std::string_view body) { return parse_completion_request(body).has_value(); }},
          {"ChatRequest",
           json::parse(R"({"messages":[{"role":"user","content":"x"}],"logprobs":true})").as_object(),
           [](std::string_view body) { return parse_chat_request(body).has_value(); }},
          {"InferenceRequest", json::parse(R"({"prompt":"x"})").as_object(),
           [](std::string_view body) { return parse_inference_request(body).has_value(); }},
          {"TokenizeRequest", json::parse(R"({"content":"x"})").as_object(),
           [](std::string_view body) { return parse_tokenize_request(body).has_value(); }},
          {"DetokenizeRequest", json::parse(R"({"tokens":[1]})").as_object(),
           [](std::string_view body) { return parse_detokenize_request(body).has_value(); }},
          {"LoadRequest", json::parse(R"({"path":"x"})").as_object(),
           [](std::string_view body) { return parse_load_request(body).has_value(); }}};
}

bool accepts_with(const documented_request& request, json::string_view name, const json::value& value) {
  json::object body = request.least;
  body[name] = value;
  return request.accepts(json::serialize(body));
}

/// Every required member is there, and every member is documented.
void check_shape(const json::value& api, std::string_view name, std::string_view rendered) {
  const json::value answer = json::parse(json::string_view(rendered.data(), rendered.size()));
  const json::object& described = schema(api, name);
  for (const json::value& member : described.at("required").as_array()) {
    BOOST_TEST_CONTEXT(name << "." << member) {
      BOOST_TEST(answer.as_object().contains(member.as_string()));
    }
  }
  for (const auto& [member, value] : answer.as_object()) {
    BOOST_TEST_CONTEXT(name << "." << member) {
      BOOST_TEST(described.at("properties").as_object().contains(member));
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(openai_openapi)

BOOST_AUTO_TEST_CASE(document_is_complete_json_with_the_version_filled_in) {
  const json::value api = document();
  BOOST_TEST(json::value_to<std::string>(api.at("openapi")) == "3.1.0");
  const auto version = json::value_to<std::string>(api.at("info").at("version"));
  BOOST_TEST(!version.empty());
  BOOST_TEST(version.find('@') == std::string::npos);
}

BOOST_AUTO_TEST_CASE(all_routes_are_described) {
  const json::value api = document();
  for (const char* path : {"/health", "/health/live", "/health/ready", "/metrics", "/v1/models",
                           "/v1/models/{id}", "/v1/models/load", "/v1/completions", "/v1/chat/completions",
                           "/v1/inference", "/tokenize", "/detokenize", "/openapi.json"}) {
    BOOST_TEST_CONTEXT(path) {
      BOOST_TEST(api.at("paths").as_object().contains(path));
    }
  }
}

BOOST_AUTO_TEST_CASE(references_lead_somewhere) {
  const json::value api = document();
  std::size_t references = 0;
  walk(api, [&](const json::object& object) {
    const auto* reference = object.if_contains("$ref");
    if (reference == nullptr) return;
    ++references;
    const std::string pointer = json::value_to<std::string>(*reference).substr(1);
    json::error_code failure;
    BOOST_TEST_CONTEXT(pointer) {
      BOOST_TEST(api.find_pointer(pointer, failure) != nullptr);
    }
  });
  BOOST_TEST(references > 50U);
}

BOOST_AUTO_TEST_CASE(operation_ids_are_unique) {
  std::set<std::string> ids;
  walk(document(), [&](const json::object& object) {
    const auto* id = object.if_contains("operationId");
    if (id != nullptr) BOOST_TEST(ids.insert(json::value_to<std::string>(*id)).second);
  });
  BOOST_TEST(ids.size() == 14U);
}

BOOST_AUTO_TEST_CASE(every_documented_parameter_is_read) {
  const json::value api = document();
  const json::value of_no_type = json::parse("[[{}]]");
  for (const auto& request : requests()) {
    BOOST_TEST(request.accepts(json::serialize(request.least)));
    for (const auto& [name, value] : members(api, schema(api, request.schema))) {
      BOOST_TEST_CONTEXT(request.schema << "." << name) {
        BOOST_TEST(!accepts_with(request, name, of_no_type));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(documented_ranges_and_defaults_are_those_of_the_parser) {
  const json::value api = document();
  std::size_t limits = 0;
  for (const auto& request : requests()) {
    for (const auto& [name, value] : members(api, schema(api, request.schema))) {
      const json::object& described = value.as_object();
      BOOST_TEST_CONTEXT(request.schema << "." << name) {
        if (const auto* least = described.if_contains("minimum")) {
          BOOST_TEST(accepts_with(request, name, *least));
          BOOST_TEST(!accepts_with(request, name, least->to_number<std::int64_t>() - 1));
          ++limits;
        }
        if (const auto* most = described.if_contains("maximum")) {
          BOOST_TEST(accepts_with(request, name, *most));
          BOOST_TEST(!accepts_with(request, name, most->to_number<std::int64_t>() + 1));
          ++limits;
        }
        if (const auto* bound = described.if_contains("exclusiveMinimum")) {
          BOOST_TEST(!accepts_with(request, name, *bound));
        }
        if (const auto* standard = described.if_contains("default")) {
          BOOST_TEST(accepts_with(request, name, *standard));
        }
      }
    }
  }
  BOOST_TEST(limits > 20U);
}

BOOST_AUTO_TEST_CASE(answers_have_the_documented_members) {
  const json::value api = document();
  const response_identity identity{"id", 1, "demo"};
  const stream_identity stream{identity, true};
  response_choice choice;
  choice.text = "x";
  const std::vector<response_choice> choices{choice};
  const auto payload = [](std::string_view event) { return event.substr(6); };
  check_shape(api, "Completion", render_completion(identity, choices, {}));
  check_shape(api, "Chat", render_chat(identity, choices, {}));
  check_shape(api, "CompletionChunk", payload(completion_chunk(stream, {0, "x", std::nullopt})));
  check_shape(api, "ChatChunk", payload(chat_chunk(stream, {0, "x", std::nullopt})));
  check_shape(api, "Inference", render_inference("x", {}));
  check_shape(api, "Model", render_model({"demo", 1, "x", 2}));
  check_shape(api, "ModelList", render_model_list({}));
  check_shape(api, "ModelDeleted", render_model_deleted("demo"));
  check_shape(api, "ModelLoading", render_model_loading("demo.gguf"));
  check_shape(api, "Error", render_error(model_not_found("x")));
  check_shape(api, "Tokens", render_tokens({1}));
  check_shape(api, "Text", render_detokenized("x"));
}

BOOST_AUTO_TEST_SUITE_END()
