#pragma once

#include "engine/grammar/automaton.hpp"
#include "engine/grammar/token_tree.hpp"

#include <boost/unordered/unordered_flat_map.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace bitnet::engine::grammar {

/// A bit a token, the lowest first: which tokens may come next.
using token_mask = std::vector<std::uint64_t>;

using state_id = std::uint32_t;

/// An automaton made deterministic as far as texts have led into it: each state is a set of (node, stack of
/// rules to return to), each step is computed once and then looked up, and so are the tokens that a state
/// allows. Owned by one thread.
class states {
 public:
  explicit states(automaton of);

  static constexpr state_id dead = 0;  ///< the text is no beginning of any that matches
  state_id start() const noexcept { return start_; }
  state_id next(state_id from, std::uint8_t byte);

  /// The text so far matches.
  bool may_end(state_id at) const noexcept { return known_[at].may_end; }
  /// Nothing can be added to it.
  bool must_end(state_id at) const noexcept { return known_[at].places.empty(); }

  /// The tokens whose text can follow. Costs a walk through the tree the first time.
  std::shared_ptr<const token_mask> allowed_tokens(state_id at, const token_tree& tree);

  /// Index of a frame: a node, and where its rule returns to.
  using place = std::uint32_t;
  /// What a state stands for, for `restore`.
  const std::vector<place>& places(state_id at) const noexcept { return known_[at].places; }

  /// Too much has been remembered: `forget` should be called, after which all ids but `dead` are invalid, and
  /// where it returns true all places as well.
  bool is_full() const noexcept;
  bool forget();
  std::uint64_t epoch() const noexcept { return epoch_; }  ///< counts how often ids became invalid
  std::uint64_t place_epoch() const noexcept { return place_epoch_; }  ///< and places
  /// The state with these places.
  state_id restore(const std::vector<place>& places, bool may_end);

  /// A set of places became too large, or a walk led to too many states: what was answered since the last
  /// `forget` may lack texts that match.
  bool overflowed() const noexcept { return overflowed_; }

 private:
  struct frame {
    node_id node;
    place parent;  ///< where the rule returns to; 0: it is the start rule
  };
  struct state {
    std::vector<place> places;  ///< sorted; all have byte edges
    bool may_end = false;
    std::vector<state_id> next;  ///< by class of bytes, unknown where not computed
    std::shared_ptr<const token_mask> allowed;
  };

  void find_byte_classes();
  void find_tails();
  place frame_of(node_id node, place parent);
  state_id close(std::vector<place> reached);
  state_id intern(state made);
  state_id compute_next(state_id from, std::uint8_t byte);

  automaton of_;
  std::array<std::uint8_t, 256> class_of_{};
  std::size_t classes_ = 0;
  std::vector<bool> only_ends_;  ///< by node: nothing but the end of the rule is reached from it

  std::vector<frame> frames_;
  boost::unordered_flat_map<std::uint64_t, place> frame_ids_;
  std::vector<std::uint32_t> visited_;  ///< by frame: the last closure that came there
  std::uint32_t closures_ = 0;
  std::vector<state> known_;
  boost::unordered_flat_map<std::size_t, std::vector<state_id>> by_hash_;
  std::size_t masks_ = 0;
  state_id start_ = dead;
  std::uint64_t epoch_ = 0;
  std::uint64_t place_epoch_ = 0;
  bool overflowed_ = false;
};

}  // namespace bitnet::engine::grammar
