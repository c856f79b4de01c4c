#include "apps/bitnet_server/console.hpp"

#include "actors/console/commands.hpp"
#include "actors/console/socket_places.hpp"
#include "config/options.hpp"

#include <boost/json/parse.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <array>
#include <utility>
#include <vector>

namespace bitnet::apps {

namespace json = boost::json;

namespace {

/// The cluster of one: this node.
class single_node : public actors::cluster_view {
 public:
  single_node(std::string name, actors::service& service) : name_(std::move(name)), service_(service) {}

  std::string self() const override { return name_; }

  json::array members() const override {
    const auto latest = service_.snapshots().facts();
    json::object node{{"name", name_}, {"state", "alive"}, {"self", true}, {"incarnation", 1}};
    if (latest.facts) {
      node["health"] = actors::to_string(latest.facts->overall);
      node["version"] = latest.facts->build.version;
      node["uptime_seconds"] = std::chrono::duration_cast<std::chrono::seconds>(latest.facts->uptime).count();
    }
    return {std::move(node)};
  }

  json::array routes() const override {
    const auto latest = service_.snapshots().facts();
    if (!latest.facts) return {};
    const auto& e = latest.facts->engine;
    return {json::object{{"to", name_},
                         {"takes_requests", e.workers > 0 && !latest.facts->draining},
                         {"workers", e.workers},
                         {"running", e.running},
                         {"queued", e.queued},
                         {"queue_capacity", e.queue_capacity}}};
  }

  std::optional<double> round_trip_us(const std::string& node) const override {
    return node == name_ ? std::optional(0.0) : std::nullopt;
  }

 private:
  std::string name_;
  actors::service& service_;
};

/// The cluster as its actor last described it; members go by their addresses.
class described_cluster : public actors::cluster_view {
 public:
  explicit described_cluster(actors::service& service) : service_(service) {}

  std::string self() const override {
    for (const auto& member : described())
      if (member.at("self").as_bool()) return address_of(member);
    return {};
  }

  json::array members() const override {
    json::array all;
    for (const auto& m : described())
      all.push_back({{"name", m.at("address")},
                     {"state", m.at("state")},
                     {"self", m.at("self")},
                     {"incarnation", m.at("incarnation")},
                     {"version", m.at("version")},
                     {"model", m.at("model")}});
    return all;
  }

  json::array routes() const override {
    json::array all;
    for (const auto& m : described()) {
      json::object route{{"to", m.at("address")}, {"takes_requests", m.at("routed")}};
      for (const auto* figure : {"running", "queued", "capacity"}) {
        std::uint64_t sum = 0;
        for (const auto& worker : m.at("workers").as_array())
          sum += worker.at(figure).to_number<std::uint64_t>();
        route[figure] = sum;
      }
      if (const auto time = round_trip_of(m)) route["round_trip_us"] = *time;
      all.push_back(std::move(route));
    }
    return all;
  }

  std::optional<double> round_trip_us(const std::string& node) const override {
    for (const auto& m : described())
      if (address_of(m) == node) return m.at("self").as_bool() ? std::optional(0.0) : round_trip_of(m);
    return std::nullopt;
  }

 private:
  json::array described() const {
    const auto document = service_.cluster_document();
    return document ? json::parse(*document).at("members").as_array() : json::array{};
  }
  static std::string address_of(const json::value& member) {
    return std::string{member.at("address").as_string()};
  }
  static std::optional<double> round_trip_of(const json::value& member) {
    const auto* const milliseconds = member.as_object().if_contains("round_trip_ms");
    return milliseconds == nullptr ? std::nullopt : std::optional(1000 * milliseconds->to_number<double>());
  }

  actors::service& service_;
};

std::string node_name(std::uint16_t http_port) {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) return fmt::format("localhost:{}", http_port);
  return fmt::format("{}:{}", host.data(), http_port);
}

std::vector<actors::console_setting> settings_of(const config::server_config& config) {
  const config::server_config defaults;
  std::vector<actors::console_setting> all;
  for (const auto& option : config::options())
    all.push_back({option.key, option.get(config), option.get(defaults)});
  return all;
}

std::string level_name() {
  const auto name = spdlog::level::to_string_view(spdlog::get_level());
  return {name.data(), name.size()};
}

bool set_level(const std::string& name) {
  const auto level = spdlog::level::from_str(name);
  if (level == spdlog::level::off && name != "off") return false;  // what from_str makes of nonsense
  spdlog::set_level(level);
  return true;
}

actors::console_sources sources_of(const config::server_config& config, std::uint16_t http_port,
                                   actors::service& service, std::shared_ptr<actors::event_log> events,
                                   std::shared_ptr<actors::stream_board> streams) {
  actors::console_sources s;
  s.actors = service.inspected();
  s.facts = [&service] { return service.snapshots().facts(); };
  s.events = std::move(events);
  s.streams = std::move(streams);
  if (config.cluster.port != 0)
    s.cluster = std::make_shared<described_cluster>(service);
  else
    s.cluster = std::make_shared<single_node>(node_name(http_port), service);
  s.settings = settings_of(config);
  s.drain = [&service](bool draining) { service.request_drain(draining); };
  s.cancel = [&service](std::uint64_t request) { service.request_cancel(request); };
  s.log_level = level_name;
  s.set_log_level = set_level;
  s.audit = [](const std::string& line) { spdlog::warn("{}", line); };
  return s;
}

}  // namespace

console_server::console_server() = default;
console_server::~console_server() = default;

tl::expected<std::unique_ptr<console_server>, std::string> console_server::start(
    const config::server_config& config, std::uint16_t http_port, actors::service& service,
    std::shared_ptr<actors::event_log> events, std::shared_ptr<actors::stream_board> streams) {
  const bool automatic = config.console.socket == "auto";
  console::endpoint_options options;
  if (automatic)
    options.socket_path = console::default_socket(http_port);
  else if (config.console.socket != "off")
    options.socket_path = config.console.socket;
  if (config.console.port != 0) {
    options.address = config.console.address;
    options.port = config.console.port;
  }
  if (options.socket_path.empty() && options.address.empty()) return nullptr;

  std::unique_ptr<console_server> server(new console_server);
  server->dispatcher_ = std::make_unique<actors::command_dispatcher>(
      sources_of(config, http_port, service, std::move(events), std::move(streams)));
  const auto answer = [d = server->dispatcher_.get()](const json::object& request,
                                                      const console::peer& from) {
    return d->answer(request, from);
  };
  auto started = console::endpoint::start(options, server->dispatcher_->hello(), answer);
  if (!started && automatic && options.address.empty()) {
    spdlog::warn("no console: {}; set console.socket", started.error());
    return nullptr;
  }
  if (!started) return tl::unexpected("console: " + started.error());
  server->endpoint_ = std::move(*started);
  if (!options.socket_path.empty()) spdlog::info("console on {}", options.socket_path);
  if (server->endpoint_->port() != 0)
    spdlog::info("console on {} port {}, read only", options.address, server->endpoint_->port());
  return server;
}

}  // namespace bitnet::apps
