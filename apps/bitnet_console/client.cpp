#include "apps/bitnet_console/client.hpp"

#include "actors/console/socket_places.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

namespace bitnet::console {

namespace json = boost::json;

namespace {

constexpr int connect_timeout_ms = 3'000;
constexpr std::chrono::seconds answer_timeout{10};

tl::expected<descriptor, std::string> dial(const std::string& target) {
  if (target.find('/') != std::string::npos) return connect_unix(target, connect_timeout_ms);
  const auto colon = target.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == target.size())
    return tl::unexpected(fmt::format("'{}' is neither HOST:PORT nor the path of a socket", target));
  auto host = target.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return connect_tcp(host, target.substr(colon + 1), connect_timeout_ms);
}

std::string text_of(const json::object& from, std::string_view key) {
  const auto* value = from.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::string error_of(const json::object& answer) {
  const auto* error = answer.if_contains("error");
  return error != nullptr && error->is_object() ? text_of(error->get_object(), "message") : std::string();
}

}  // namespace

tl::expected<client, std::string> client::connect(std::string target) {
  client c(std::move(target));
  if (auto opened = c.open(); !opened) return tl::unexpected(opened.error());
  return c;
}

tl::expected<void, std::string> client::open() {
  auto fd = dial(target_);
  if (!fd) return tl::unexpected(fd.error());
  fd_ = std::move(*fd);
  in_ = frame_reader{max_answer_bytes};
  const auto hello = receive_object();
  if (!hello)
    return tl::unexpected(
        fmt::format("{} does not speak the console's protocol: {}", target_, hello.error()));
  node_ = text_of(*hello, "node");
  version_ = text_of(*hello, "version");
  commands_.clear();
  if (const auto* list = hello->if_contains("commands"); list != nullptr && list->is_array())
    for (const auto& each : list->get_array()) {
      if (!each.is_object()) continue;
      const auto& o = each.get_object();
      const auto* acts = o.if_contains("acts");
      commands_.push_back({text_of(o, "name"), text_of(o, "usage"), text_of(o, "summary"),
                           acts != nullptr && acts->is_bool() && acts->get_bool()});
    }
  return send_object({{"protocol", protocol_version}, {"client", "bitnet-console"}});
}

tl::expected<void, std::string> client::send_object(const json::object& object) {
  const auto frame = encode_frame(json::serialize(object));
  for (std::size_t sent = 0; sent < frame.size();) {
    const auto n = send(fd_.get(), frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return tl::unexpected(std::string{"the server closed the connection"});
    sent += static_cast<std::size_t>(n);
  }
  return {};
}

tl::expected<json::object, std::string> client::receive_object() {
  const auto deadline = std::chrono::steady_clock::now() + answer_timeout;
  for (;;) {
    if (in_.oversized()) return tl::unexpected(std::string{"the answer is too large"});
    if (const auto payload = in_.next()) {
      json::error_code error;
      auto value = json::parse(*payload, error);
      if (error || !value.is_object()) return tl::unexpected(std::string{"the answer is not JSON"});
      return std::move(value.get_object());
    }
    if (std::chrono::steady_clock::now() > deadline) return tl::unexpected(std::string{"no answer in time"});
    char bytes[65536];
    const auto got = recv(fd_.get(), bytes, sizeof bytes, 0);
    if (got == 0) return tl::unexpected(std::string{"the server closed the connection"});
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      return tl::unexpected(std::string{"no answer in time"});
    if (got < 0 && errno != EINTR) return tl::unexpected(std::string{"the connection broke"});
    if (got > 0) in_.feed({bytes, static_cast<std::size_t>(got)});
  }
}

tl::expected<json::object, std::string> client::ask(const json::object& request) {
  const auto attempt = [&]() -> tl::expected<json::object, std::string> {
    if (auto sent = send_object(request); !sent) return tl::unexpected(sent.error());
    return receive_object();
  };
  auto answer = attempt();
  if (!answer && answer.error() == "the server closed the connection") {
    // It closes what idles, and a new server may have taken its place.
    if (auto opened = open(); !opened) return tl::unexpected(opened.error());
    answer = attempt();
  }
  if (answer && !answer->contains("command"))
    return tl::unexpected(fmt::format("the server refuses: {}", error_of(*answer)));
  return answer;
}

const remote_command* client::find(const std::string& name) const {
  const auto found =
      std::find_if(commands_.begin(), commands_.end(), [&](const auto& c) { return c.name == name; });
  return found == commands_.end() ? nullptr : &*found;
}

tl::expected<std::string, no_target> find_target() {
  std::vector<std::string> live;
  const auto places = find_sockets();
  for (const auto& path : places)
    if (connect_unix(path, connect_timeout_ms)) live.push_back(path);
  if (live.size() == 1) return live.front();
  if (live.empty())
    return tl::unexpected(no_target{
        "no server of yours runs on this machine; name one with --connect=HOST:PORT or --connect=SOCKET "
        "(the server's log says \"console on ...\")",
        false});
  return tl::unexpected(no_target{
      fmt::format("several servers run here; choose one with --connect=\n  {}", fmt::join(live, "\n  ")),
      true});
}

}  // namespace bitnet::console
