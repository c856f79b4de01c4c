#include "engine/grammar/states.hpp"

#include <boost/container_hash/hash.hpp>

#include <algorithm>
#include <utility>

namespace bitnet::engine::grammar {

namespace {

constexpr state_id unknown = ~state_id{0};

constexpr std::size_t max_places = 4096;  ///< in a state
// What is remembered before it is forgotten, and within one walk at most.
constexpr std::size_t many_states = 1U << 14U;
constexpr std::size_t most_states = 1U << 16U;
constexpr std::size_t many_frames = 1U << 19U;
constexpr std::size_t most_frames = 1U << 22U;
constexpr std::size_t many_masks = 512;

}  // namespace

states::states(automaton of) : of_(std::move(of)) {
  find_byte_classes();
  find_tails();
  overflowed_ = true;  // there are no places yet
  forget();
}

/// Bytes between which no edge distinguishes share a class.
void states::find_byte_classes() {
  std::array<bool, 257> begins{};
  for (const auto& node : of_.nodes) {
    for (const auto& edge : node.bytes) {
      begins[edge.first] = true;
      begins[edge.last + std::size_t{1}] = true;
    }
  }
  begins[0] = false;
  std::uint8_t current = 0;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    if (begins[byte]) ++current;
    class_of_[byte] = current;
  }
  classes_ = current + std::size_t{1};
}

/// Calls whose return place only ends its rule return to the caller's return place at once: lists do not pile
/// up frames.
void states::find_tails() {
  only_ends_.assign(of_.nodes.size(), false);
  for (bool changed = true; changed;) {
    changed = false;
    for (node_id n = static_cast<node_id>(of_.nodes.size()); n-- > 0;) {
      const auto& node = of_.nodes[n];
      if (only_ends_[n] || !node.bytes.empty() || !node.calls.empty()) continue;
      const bool now = node.jumps.empty() ? node.ends
                                          : std::all_of(node.jumps.begin(), node.jumps.end(),
                                                        [&](auto to) { return only_ends_[to]; });
      if (now) changed = only_ends_[n] = true;
    }
  }
}

bool states::is_full() const noexcept {
  return known_.size() > many_states || frames_.size() > many_frames || masks_ > many_masks;
}

bool states::forget() {
  const bool places_too = overflowed_ || frames_.size() > many_frames;
  if (places_too) {
    ++place_epoch_;
    frames_.assign(1, {});  // index 0 stands for no parent
    frame_ids_.clear();
    visited_.assign(1, 0);
    closures_ = 0;
  }
  ++epoch_;
  overflowed_ = false;
  known_.clear();
  by_hash_.clear();
  masks_ = 0;
  known_.push_back({{}, false, std::vector<state_id>(classes_, dead), nullptr});
  start_ = close({frame_of(of_.rules[of_.start], 0)});
  return places_too;
}

state_id states::restore(const std::vector<place>& places, bool may_end) {
  return intern({places, may_end, {}, nullptr});
}

states::place states::frame_of(node_id node, place parent) {
  const auto key = std::uint64_t{node} << 32U | parent;
  const auto [known, is_new] = frame_ids_.try_emplace(key, static_cast<place>(frames_.size()));
  if (is_new) {
    frames_.push_back({node, parent});
    visited_.push_back(0);
  }
  return known->second;
}

/// The state of all that is reached from these places without consuming anything.
state_id states::close(std::vector<place> reached) {
  ++closures_;
  state made;
  while (!reached.empty()) {
    const auto at = reached.back();
    reached.pop_back();
    if (std::exchange(visited_[at], closures_) == closures_) continue;
    if (frames_.size() > most_frames) overflowed_ = true;
    const auto [node_index, parent] = frames_[at];
    const auto& node = of_.nodes[node_index];
    if (!node.bytes.empty()) made.places.push_back(at);
    if (node.ends) {
      if (parent == 0)
        made.may_end = true;
      else
        reached.push_back(parent);
    }
    for (const auto to : node.jumps) reached.push_back(frame_of(to, parent));
    for (const auto& call : node.calls) {
      const bool tail = only_ends_[call.back] && parent != 0;
      const auto back = tail ? parent : frame_of(call.back, parent);
      reached.push_back(frame_of(of_.rules[call.rule], back));
    }
    if (made.places.size() > max_places) overflowed_ = true;
    if (overflowed_) return dead;
  }
  if (made.places.empty() && !made.may_end) return dead;
  std::sort(made.places.begin(), made.places.end());
  return intern(std::move(made));
}

state_id states::intern(state made) {
  auto& candidates = by_hash_[boost::hash_value(made.places) * 2 + (made.may_end ? 1 : 0)];
  for (const auto id : candidates)
    if (known_[id].may_end == made.may_end && known_[id].places == made.places) return id;
  if (known_.size() > most_states) {
    overflowed_ = true;
    return dead;
  }
  const auto id = static_cast<state_id>(known_.size());
  made.next.assign(classes_, made.places.empty() ? dead : unknown);
  known_.push_back(std::move(made));
  candidates.push_back(id);
  return id;
}

state_id states::next(state_id from, std::uint8_t byte) {
  const auto known = known_[from].next[class_of_[byte]];
  return known != unknown ? known : compute_next(from, byte);
}

state_id states::compute_next(state_id from, std::uint8_t byte) {
  std::vector<place> reached;
  for (const auto at : known_[from].places) {
    const auto [node_index, parent] = frames_[at];
    for (const auto& edge : of_.nodes[node_index].bytes)
      if (byte >= edge.first && byte <= edge.last) reached.push_back(frame_of(edge.to, parent));
  }
  const auto to = reached.empty() ? dead : close(std::move(reached));
  if (!overflowed_) known_[from].next[class_of_[byte]] = to;
  return to;
}

std::shared_ptr<const token_mask> states::allowed_tokens(state_id at, const token_tree& tree) {
  if (known_[at].allowed) return known_[at].allowed;
  auto mask = std::make_shared<token_mask>((tree.vocabulary_size() + 63) / 64);
  const auto nodes = tree.nodes();
  std::vector<state_id> path(tree.depth() + 1);
  path[0] = at;
  for (std::size_t i = 0; i < nodes.size();) {
    const auto& node = nodes[i];
    const auto to = next(path[node.depth], node.byte);
    if (to == dead) {
      i = node.subtree_end;
      continue;
    }
    path[node.depth + 1] = to;
    for (const auto id : tree.tokens_of(node)) (*mask)[id / 64] |= std::uint64_t{1} << (id % 64);
    ++i;
  }
  ++masks_;
  return known_[at].allowed = std::move(mask);
}

}  // namespace bitnet::engine::grammar
