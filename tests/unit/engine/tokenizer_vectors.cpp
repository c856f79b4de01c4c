#include "tests/unit/engine/tokenizer_vectors.hpp"

#include "engine/byte_alphabet.hpp"

#include <boost/json.hpp>

#include <fstream>
#include <iterator>
#include <stdexcept>

namespace bitnet::tests {

namespace json = boost::json;

tokenizer_vectors load_tokenizer_vectors(std::string_view name) {
  std::ifstream file("tests/support/tokenizer_vectors.json", std::ios::binary);
  if (!file) throw std::runtime_error("run the tests from the root of the repository");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const json::value document = json::parse(text);
  const json::object& entry = document.at(json::string_view(name.data(), name.size())).as_object();

  tokenizer_vectors vectors;
  auto& data = vectors.data;
  data.tokens = json::value_to<std::vector<std::string>>(entry.at("tokens"));
  data.token_types = json::value_to<std::vector<std::int64_t>>(entry.at("token_types"));
  if (name == "sentencepiece") {
    data.model = "llama";
    data.scores = json::value_to<std::vector<double>>(entry.at("scores"));
    data.unknown_token_id = 0;
    data.bos_token_id = 1;
    data.eos_token_id = 2;
  } else {
    data.model = "gpt2";
    data.pre = std::string(name);
    data.merges = json::value_to<std::vector<std::string>>(entry.at("merges"));
    data.bos_token_id = data.tokens.size() - 3;
    data.eos_token_id = data.tokens.size() - 2;
  }
  for (const json::value& item : entry.at("cases").as_array()) {
    tokenizer_case read;
    read.text = json::value_to<std::string>(item.at("text"));
    read.ids = json::value_to<std::vector<engine::token_id>>(item.at("ids"));
    if (const auto* ids = item.as_object().if_contains("ids_with_special")) {
      read.ids_with_special = json::value_to<std::vector<engine::token_id>>(*ids);
    }
    vectors.cases.push_back(std::move(read));
  }
  if (vectors.cases.size() < 50) throw std::runtime_error("tokenizer_vectors.json has lost its cases");
  return vectors;
}

std::unique_ptr<engine::tokenizer> make_or_throw(engine::tokenizer_data data) {
  auto made = engine::make_tokenizer(std::move(data));
  if (!made) throw std::runtime_error(made.error().message);
  return std::move(*made);
}

engine::tokenizer_data byte_vocabulary() {
  engine::tokenizer_data data;
  data.model = "gpt2";
  data.pre = "llama-bpe";
  for (unsigned byte = 0; byte < 256; ++byte) {
    data.tokens.push_back(engine::spelling_of_bytes(std::string(1, static_cast<char>(byte))));
  }
  return data;
}

}  // namespace bitnet::tests
