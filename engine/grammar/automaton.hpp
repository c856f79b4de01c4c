#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::engine::grammar {

using node_id = std::uint32_t;
using rule_id = std::uint32_t;

/// A set of texts as a recursive transition network (Woods: Transition network grammars for natural language
/// analysis, CACM 1970): a finite automaton over bytes a rule, whose edges may also call rules.
struct automaton {
  struct byte_edge {
    std::uint8_t first;
    std::uint8_t last;
    node_id to;
  };
  struct call_edge {
    rule_id rule;
    node_id back;  ///< where it goes on when the rule has ended
  };
  struct node {
    std::vector<byte_edge> bytes;
    std::vector<call_edge> calls;
    std::vector<node_id> jumps;  ///< without consuming anything
    bool ends = false;           ///< the rule may end here
  };

  std::vector<node> nodes;
  std::vector<node_id> rules;  ///< first node by rule
  rule_id start = 0;
};

/// Why something cannot become an automaton; `what()` is a sentence part for the user. Thrown and caught
/// inside the compiler: `compile` returns it as a value.
struct grammar_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A piece of an automaton with one way in and one way out.
struct fragment {
  node_id begin;
  node_id end;
};

inline constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

/// Builds automata from pieces. Throws grammar_error where the result would be too large.
class automaton_builder {
 public:
  fragment empty();
  fragment literal(std::string_view bytes);
  fragment range(std::uint8_t first, std::uint8_t last);
  fragment sequence(fragment a, fragment b);
  template <class... More>
  fragment sequence(fragment a, fragment b, More... more) {
    return sequence(sequence(a, b), more...);
  }
  /// `alternatives` empty: a piece that nothing matches.
  fragment choice(const std::vector<fragment>& alternatives);
  fragment optional(fragment a);
  /// From `least` to `most` times what `make` makes, each time anew.
  fragment repeat(const std::function<fragment()>& make, std::size_t least, std::size_t most);
  fragment call(rule_id rule);

  /// A rule that is defined later, so that it can be called from inside itself.
  rule_id declare();
  void define(rule_id rule, fragment body);

  node_id add_node();
  void add_range(node_id from, std::uint8_t first, std::uint8_t last, node_id to);
  void add_jump(node_id from, node_id to);
  void add_call(node_id from, rule_id rule, node_id back);

  /// Takes away what leads nowhere. Throws where nothing is left, or where a rule calls itself before it
  /// consumes anything.
  automaton finish(rule_id start) &&;

 private:
  automaton built_;
};

}  // namespace bitnet::engine::grammar
