#include "actors/console/actor_json.hpp"
#include "actors/console/commands.hpp"

#include <boost/json/array.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>

// Commands that read the process table. None of them asks an actor, so that all of them work when actors
// hang.

namespace bitnet::actors {

namespace json = boost::json;

namespace {

using records = std::vector<process_record>;

bool always(const console_sources&) {
  return true;
}

std::string known_names(const records& all) {
  std::set<std::string> names;
  for (const auto& r : all) names.insert(r.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

bool matches(const process_record& r, const console_request& request) {
  return std::all_of(request.words.begin(), request.words.end(), [&](const std::string& word) {
    return r.name.find(word) != std::string::npos || std::to_string(r.id) == word;
  });
}

json::array list(const records& all, std::size_t limit = ~std::size_t{0}) {
  json::array rows;
  for (const auto& r : all) {
    if (rows.size() >= limit) break;
    rows.push_back(to_json(r));
  }
  return rows;
}

command_result ps(const console_sources& sources, const console_request& request) {
  auto all = sources.actors->table.read();
  std::erase_if(all, [&](const process_record& r) { return !matches(r, request); });
  return {{{"actors", list(all)}, {"not_shown", sources.actors->table.overflowed()}}, {}, false, {}};
}

using order = bool (*)(const process_record&, const process_record&);

order order_by(const std::string& key) {
  if (key == "depth")
    return [](const process_record& a, const process_record& b) { return a.depth > b.depth; };
  if (key == "rate") return [](const process_record& a, const process_record& b) { return a.rate > b.rate; };
  if (key == "busy")
    return [](const process_record& a, const process_record& b) { return a.busy_percent > b.busy_percent; };
  if (key == "wait")
    return
        [](const process_record& a, const process_record& b) { return a.waiting_p99_ns > b.waiting_p99_ns; };
  if (key == "restarts")
    return [](const process_record& a, const process_record& b) { return a.incarnation > b.incarnation; };
  return nullptr;
}

command_result top(const console_sources& sources, const console_request& request) {
  const auto key = request.option("by").value_or("busy");
  const auto before = order_by(key);
  if (before == nullptr)
    return refuse(fmt::format("cannot sort by {}; --by=depth|rate|busy|wait|restarts", key));
  const auto limit = number_option(request, "limit", 1, 10'000, 20);
  if (!limit) return refuse("--limit is a number from 1 to 10000");
  auto all = sources.actors->table.read();
  std::erase_if(all, [&](const process_record& r) { return !matches(r, request); });
  std::stable_sort(all.begin(), all.end(), before);
  return {{{"by", key}, {"actors", list(all, *limit)}, {"of", all.size()}}, {}, false, {}};
}

/// By id, or by name where that is the name of one.
tl::expected<process_record, std::string> choose(const records& all, const console_request& request) {
  if (request.words.size() != 1) return tl::unexpected(std::string{"name one actor, by id or name"});
  const auto& wanted = request.words.front();
  std::vector<const process_record*> found;
  for (const auto& r : all) {
    if (std::to_string(r.id) == wanted) return r;
    if (r.name == wanted) found.push_back(&r);
  }
  if (found.size() == 1) return *found.front();
  if (found.empty())
    return tl::unexpected(fmt::format("there is no actor {}; there are {}", wanted, known_names(all)));
  return tl::unexpected(
      fmt::format("{} actors are called {}; name one by its id (ps {})", found.size(), wanted, wanted));
}

command_result actor(const console_sources& sources, const console_request& request) {
  const auto all = sources.actors->table.read();
  const auto chosen = choose(all, request);
  if (!chosen) return refuse(chosen.error());
  auto details = to_json(*chosen);
  details["thread_state"] = thread_state(chosen->thread);
  details["patience_ms"] = milliseconds_of(chosen->patience_ns);
  json::array children;
  for (const auto& r : all)
    if (r.parent == chosen->id) children.push_back({{"id", r.id}, {"name", r.name}});
  details["children"] = std::move(children);
  return {{{"actor", std::move(details)}, {"recent", recent_messages(*chosen)}}, {}, false, {}};
}

command_result mailbox(const console_sources& sources, const console_request& request) {
  const auto all = sources.actors->table.read();
  const auto chosen = choose(all, request);
  if (!chosen) return refuse(chosen.error());
  const auto& r = *chosen;
  json::object box{{"id", r.id},
                   {"name", r.name},
                   {"depth", r.depth},
                   {"high_water", r.high_water},
                   {"enqueued", r.enqueued},
                   {"done", r.done},
                   {"rate", tenths(r.rate)},
                   {"oldest_wait_ms", milliseconds_of(r.oldest_wait_ns)},
                   {"wait_p50_ms", milliseconds_of(r.waiting_p50_ns)},
                   {"wait_p99_ms", milliseconds_of(r.waiting_p99_ns)},
                   {"now", to_string(r.current)},
                   {"running_ms", milliseconds_of(r.running_ns)}};
  return {{{"mailbox", std::move(box)}, {"recent", recent_messages(r)}}, {}, false, {}};
}

void add_subtree(const records& all, std::uint64_t parent, int level, std::set<std::uint64_t>& seen,
                 json::array& rows) {
  for (const auto& r : all) {
    if (r.parent != parent || !seen.insert(r.id).second) continue;
    auto row = to_json(r);
    row["level"] = level;
    rows.push_back(std::move(row));
    add_subtree(all, r.id, level + 1, seen, rows);
  }
}

command_result tree(const console_sources& sources, const console_request&) {
  const auto all = sources.actors->table.read();
  std::set<std::uint64_t> ids;
  for (const auto& r : all) ids.insert(r.id);
  json::array rows;
  std::set<std::uint64_t> seen;
  for (const auto& r : all) {
    if (ids.contains(r.parent) || !seen.insert(r.id).second) continue;  // its parent shows it
    auto row = to_json(r);
    row["level"] = 0;
    rows.push_back(std::move(row));
    add_subtree(all, r.id, 1, seen, rows);
  }
  return {{{"actors", std::move(rows)}}, {}, false, {}};
}

command_result hung(const console_sources& sources, const console_request& request) {
  const auto over = seconds_option(request, "over");
  if (!over) return refuse("--over is a number of seconds above 0");
  json::array rows;
  for (const auto& r : sources.actors->table.read()) {
    const auto limit = over->value_or(std::chrono::nanoseconds(r.patience_ns)).count();
    if (r.running_ns <= limit && r.oldest_wait_ns <= limit) continue;
    auto row = to_json(r);
    row["why"] = why_suspect(r);
    rows.push_back(std::move(row));
  }
  return {{{"hung", std::move(rows)}}, {}, false, {}};
}

}  // namespace

std::span<const console_command> actor_commands() {
  static const std::array commands{
      console_command{"top", "[--by=depth|rate|busy|wait|restarts] [--limit=N] [NAME]",
                      "busiest actors first; live in the console, with --watch outside", false, always, top},
      console_command{"ps", "[NAME]", "all actors, or those whose name contains NAME", false, always, ps},
      console_command{"tree", "", "who spawned whom", false, always, tree},
      console_command{"actor", "ID|NAME", "everything about one actor", false, always, actor},
      console_command{"mailbox", "ID|NAME", "how deep one actor's mailbox is and how long messages wait",
                      false, always, mailbox},
      console_command{"hung", "[--over=SECONDS]",
                      "actors that are in one message, or leave one waiting, for too long", false, always,
                      hung},
  };
  return commands;
}

}  // namespace bitnet::actors
