#include "engine/grammar/automaton.hpp"

#include <algorithm>
#include <utility>

namespace bitnet::engine::grammar {

namespace {

constexpr std::size_t max_nodes = 60'000;

/// From which nodes the end of their rule can be reached.
class productive_nodes {
 public:
  explicit productive_nodes(const automaton& of) : of_(of), known_(of.nodes.size()) {
    std::vector<std::vector<node_id>> dependents(of.nodes.size());
    std::vector<node_id> pending;
    for (node_id n = 0; n < of.nodes.size(); ++n) {
      const auto& node = of.nodes[n];
      for (const auto& edge : node.bytes) dependents[edge.to].push_back(n);
      for (const auto to : node.jumps) dependents[to].push_back(n);
      for (const auto& call : node.calls) {
        dependents[call.back].push_back(n);
        dependents[of.rules[call.rule]].push_back(n);
      }
      if (node.ends) pending.push_back(n);
    }
    for (const auto n : pending) known_[n] = true;
    while (!pending.empty()) {
      const auto changed = pending.back();
      pending.pop_back();
      for (const auto n : dependents[changed]) {
        if (known_[n] || !leads_on(of.nodes[n])) continue;
        known_[n] = true;
        pending.push_back(n);
      }
    }
  }

  bool contains(node_id n) const { return known_[n]; }
  bool contains(const automaton::call_edge& call) const {
    return known_[call.back] && known_[of_.rules[call.rule]];
  }

 private:
  bool leads_on(const automaton::node& node) const {
    return std::any_of(node.bytes.begin(), node.bytes.end(), [&](const auto& e) { return known_[e.to]; }) ||
           std::any_of(node.jumps.begin(), node.jumps.end(), [&](auto to) { return known_[to]; }) ||
           std::any_of(node.calls.begin(), node.calls.end(), [&](const auto& c) { return contains(c); });
  }

  const automaton& of_;
  std::vector<bool> known_;
};

void prune(automaton& of) {
  const productive_nodes productive(of);
  for (auto& node : of.nodes) {
    std::erase_if(node.bytes, [&](const auto& e) { return !productive.contains(e.to); });
    std::erase_if(node.jumps, [&](auto to) { return !productive.contains(to); });
    std::erase_if(node.calls, [&](const auto& c) { return !productive.contains(c); });
  }
  if (!productive.contains(of.rules[of.start])) throw grammar_error("no finite value can satisfy it");
}

/// Finds out which rules can end without consuming anything, and which rules a rule can call before it has.
class leading_calls {
 public:
  explicit leading_calls(const automaton& of)
      : of_(of), nullable_(of.rules.size()), called_(of.rules.size()), visited_(of.nodes.size()) {
    for (bool changed = true; changed;) {
      changed = false;
      for (rule_id rule = 0; rule < of.rules.size(); ++rule) {
        const bool before = nullable_[rule];
        visit(rule);
        changed = changed || nullable_[rule] != before;
      }
    }
  }

  /// Some rule can call itself without having consumed anything in between.
  bool has_cycle() const {
    enum class mark : std::uint8_t { unseen, open, done };
    std::vector<mark> marks(of_.rules.size(), mark::unseen);
    std::vector<std::pair<rule_id, std::size_t>> path;
    for (rule_id root = 0; root < of_.rules.size(); ++root) {
      if (marks[root] != mark::unseen) continue;
      path.emplace_back(root, 0);
      marks[root] = mark::open;
      while (!path.empty()) {
        auto& [rule, next] = path.back();
        if (next == called_[rule].size()) {
          marks[rule] = mark::done;
          path.pop_back();
          continue;
        }
        const auto callee = called_[rule][next++];
        if (marks[callee] == mark::open) return true;
        if (marks[callee] == mark::done) continue;
        marks[callee] = mark::open;
        path.emplace_back(callee, 0);
      }
    }
    return false;
  }

 private:
  void visit(rule_id rule) {
    called_[rule].clear();
    ++visits_;
    std::vector<node_id> seen;
    const auto reach = [&](node_id n) {
      if (std::exchange(visited_[n], visits_) != visits_) seen.push_back(n);
    };
    reach(of_.rules[rule]);
    for (std::size_t i = 0; i < seen.size(); ++i) {
      const auto& node = of_.nodes[seen[i]];
      if (node.ends) nullable_[rule] = true;
      for (const auto to : node.jumps) reach(to);
      for (const auto& call : node.calls) {
        called_[rule].push_back(call.rule);
        if (nullable_[call.rule]) reach(call.back);
      }
    }
  }

  const automaton& of_;
  std::vector<bool> nullable_;
  std::vector<std::vector<rule_id>> called_;
  std::vector<std::size_t> visited_;  ///< by node: the last visit that came there
  std::size_t visits_ = 0;
};

}  // namespace

node_id automaton_builder::add_node() {
  if (built_.nodes.size() == max_nodes)
    throw grammar_error("it is too large: use smaller bounds or fewer members");
  built_.nodes.emplace_back();
  return static_cast<node_id>(built_.nodes.size() - 1);
}

void automaton_builder::add_range(node_id from, std::uint8_t first, std::uint8_t last, node_id to) {
  built_.nodes[from].bytes.push_back({first, last, to});
}

void automaton_builder::add_jump(node_id from, node_id to) {
  built_.nodes[from].jumps.push_back(to);
}

void automaton_builder::add_call(node_id from, rule_id rule, node_id back) {
  built_.nodes[from].calls.push_back({rule, back});
}

fragment automaton_builder::empty() {
  const auto n = add_node();
  return {n, n};
}

fragment automaton_builder::literal(std::string_view bytes) {
  auto made = empty();
  for (const char c : bytes) {
    const auto next = add_node();
    add_range(made.end, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), next);
    made.end = next;
  }
  return made;
}

fragment automaton_builder::range(std::uint8_t first, std::uint8_t last) {
  const fragment made{add_node(), add_node()};
  add_range(made.begin, first, last, made.end);
  return made;
}

fragment automaton_builder::sequence(fragment a, fragment b) {
  add_jump(a.end, b.begin);
  return {a.begin, b.end};
}

fragment automaton_builder::choice(const std::vector<fragment>& alternatives) {
  const fragment made{add_node(), add_node()};
  for (const auto& a : alternatives) {
    add_jump(made.begin, a.begin);
    add_jump(a.end, made.end);
  }
  return made;
}

fragment automaton_builder::optional(fragment a) {
  return choice({a, empty()});
}

fragment automaton_builder::repeat(const std::function<fragment()>& make, std::size_t least,
                                   std::size_t most) {
  auto made = empty();
  for (std::size_t i = 0; i < least; ++i) made = sequence(made, make());
  if (most == unlimited) {
    const auto loop = add_node();
    const auto body = make();
    const auto out = add_node();
    add_jump(made.end, loop);
    add_jump(loop, body.begin);
    add_jump(body.end, loop);
    add_jump(loop, out);
    return {made.begin, out};
  }
  const auto out = add_node();
  for (std::size_t i = least; i < most; ++i) {
    add_jump(made.end, out);
    made = sequence(made, make());
  }
  add_jump(made.end, out);
  return {made.begin, out};
}

fragment automaton_builder::call(rule_id rule) {
  const fragment made{add_node(), add_node()};
  add_call(made.begin, rule, made.end);
  return made;
}

rule_id automaton_builder::declare() {
  built_.rules.push_back(add_node());
  return static_cast<rule_id>(built_.rules.size() - 1);
}

void automaton_builder::define(rule_id rule, fragment body) {
  add_jump(built_.rules[rule], body.begin);
  built_.nodes[body.end].ends = true;
}

automaton automaton_builder::finish(rule_id start) && {
  built_.start = start;
  prune(built_);
  if (leading_calls(built_).has_cycle())
    throw grammar_error("it refers to itself without anything in between");
  return std::move(built_);
}

}  // namespace bitnet::engine::grammar
