#include "engine/grammar/matcher.hpp"

#include "engine/grammar/json_schema.hpp"

#include <algorithm>
#include <utility>

namespace bitnet::engine::grammar {

namespace {

constexpr std::size_t max_cached_schemas = 32;

}  // namespace

matcher::matcher(std::shared_ptr<compiled_schema> schema)
    : schema_(std::move(schema)),
      state_(schema_->known.start()),
      epoch_(schema_->known.epoch()),
      place_epoch_(schema_->known.place_epoch()),
      places_(schema_->known.places(state_)),
      may_end_(schema_->known.may_end(state_)) {}

bool matcher::walk(std::string_view bytes) {
  auto& known = schema_->known;
  for (const char c : bytes) state_ = known.next(state_, static_cast<std::uint8_t>(c));
  places_ = known.places(state_);
  may_end_ = known.may_end(state_);
  return state_ != states::dead;
}

void matcher::recall() {
  auto& known = schema_->known;
  if (known.is_full() || known.overflowed()) known.forget();
  if (std::exchange(epoch_, known.epoch()) == known.epoch()) return;
  if (std::exchange(place_epoch_, known.place_epoch()) == known.place_epoch()) {
    state_ = known.restore(places_, may_end_);
    return;
  }
  state_ = known.start();
  walk(text_);
}

bool matcher::advance(std::string_view bytes) {
  recall();
  text_ += bytes;
  if (walk(bytes)) return true;
  if (!schema_->known.overflowed()) return false;
  // What others left behind must make no difference.
  recall();
  return state_ != states::dead;
}

result<std::shared_ptr<const token_mask>> matcher::allowed_tokens() {
  recall();
  auto& known = schema_->known;
  auto mask = known.allowed_tokens(state_, *schema_->tree);
  if (known.overflowed()) {
    recall();
    mask = known.allowed_tokens(state_, *schema_->tree);
  }
  if (known.overflowed())
    return fail(error_code::invalid_request,
                "The JSON schema is too ambiguous: too many of its alternatives begin alike.");
  const bool any = std::any_of(mask->begin(), mask->end(), [](auto bits) { return bits != 0; });
  if (!any && !may_end_)
    return fail(error_code::invalid_request,
                "No token of the model continues this text as the JSON schema wants it.");
  return mask;
}

result<matcher> schema_cache::match(std::string_view schema) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const entry& e) { return e.text == schema; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return matcher(entries_.front().compiled);
  }
  if (tokens_ == nullptr)
    return fail(error_code::invalid_request,
                "The model has no tokenizer, without which no JSON schema can be used.");
  auto automaton = compile_json_schema(schema);
  if (!automaton) return tl::unexpected(automaton.error());
  if (!tree_) tree_ = std::make_shared<token_tree>(*tokens_);
  entries_.push_front({std::string(schema), std::make_shared<compiled_schema>(
                                                compiled_schema{states(std::move(*automaton)), tree_})});
  if (entries_.size() > max_cached_schemas) entries_.pop_back();
  return matcher(entries_.front().compiled);
}

}  // namespace bitnet::engine::grammar
