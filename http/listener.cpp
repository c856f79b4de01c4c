#include "http/listener.hpp"

#include <fmt/format.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>

namespace bitnet::http {

namespace {

constexpr int accept_queue = 1024;

struct endpoint {
  sockaddr_storage storage{};
  socklen_t length = 0;

  int family() const { return storage.ss_family; }
  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&storage); }

  void set_port(std::uint16_t port) {
    if (family() == AF_INET6) {
      reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port = htons(port);
    } else {
      reinterpret_cast<sockaddr_in*>(&storage)->sin_port = htons(port);
    }
  }
};

std::optional<endpoint> parse_address(const std::string& text) {
  endpoint e;
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&e.storage);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&e.storage);
  const auto literal = text == "localhost" ? std::string{"127.0.0.1"} : text;
  if (inet_pton(AF_INET, literal.c_str(), &v4->sin_addr) == 1) {
    e.storage.ss_family = AF_INET;
    e.length = sizeof(sockaddr_in);
    return e;
  }
  if (inet_pton(AF_INET6, literal.c_str(), &v6->sin6_addr) == 1) {
    e.storage.ss_family = AF_INET6;
    e.length = sizeof(sockaddr_in6);
    return e;
  }
  return std::nullopt;
}

bool set_option(int descriptor, int level, int name, int value) {
  return ::setsockopt(descriptor, level, name, &value, sizeof value) == 0;
}

unique_descriptor bind_socket(const endpoint& where, bool share_port) {
  unique_descriptor socket{::socket(where.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP)};
  if (!socket) return socket;
  bool ok = set_option(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1) &&
            set_option(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  if (where.family() == AF_INET6) ok = ok && set_option(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (share_port) ok = ok && set_option(socket.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  if (!ok || ::bind(socket.get(), where.address(), where.length) != 0) {
    const int error = errno;
    socket.reset();
    errno = error;
  }
  return socket;
}

std::uint16_t bound_port(int descriptor) {
  endpoint e;
  e.length = sizeof e.storage;
  if (::getsockname(descriptor, reinterpret_cast<sockaddr*>(&e.storage), &e.length) != 0) return 0;
  return ntohs(e.family() == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&e.storage)->sin6_port
                                      : reinterpret_cast<sockaddr_in*>(&e.storage)->sin_port);
}

std::string describe(const std::string& address, std::uint16_t port, int error) {
  const auto where = address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                            : fmt::format("[{}]:{}", address, port);
  switch (error) {
    case EADDRINUSE:
      return fmt::format(
          "cannot listen on {}: another process listens there; stop it or choose another http.port", where);
    case EADDRNOTAVAIL:
      return fmt::format(
          "cannot listen on {}: this machine has no such address; set http.address to one of its own, "
          "or to 0.0.0.0 for all",
          where);
    case EACCES:
      return fmt::format("cannot listen on {}: ports below 1024 need privileges; choose a higher http.port",
                         where);
    default:
      return fmt::format("cannot listen on {}: {}; check http.address and http.port", where,
                         std::generic_category().message(error));
  }
}

}  // namespace

tl::expected<listener_group, std::string> open_listeners(const std::string& address, std::uint16_t port,
                                                         unsigned count) {
  auto where = parse_address(address);
  if (!where) {
    return tl::make_unexpected(fmt::format(
        "http.address '{}' is not an IP address; use for example 127.0.0.1, or 0.0.0.0 for all interfaces",
        address));
  }
  where->set_port(port);
  listener_group group;
  group.ipv6 = where->family() == AF_INET6;
  group.port = port;
  {
    // SO_REUSEPORT alone would let a second server of the same user share the port unnoticed: bind once
    // without it. For port 0 this also finds the port.
    const auto exclusive = bind_socket(*where, false);
    if (!exclusive) return tl::make_unexpected(describe(address, port, errno));
    if (port == 0) group.port = bound_port(exclusive.get());
  }
  where->set_port(group.port);
  for (unsigned i = 0; i < count; ++i) {
    auto socket = bind_socket(*where, true);
    if (!socket || ::listen(socket.get(), accept_queue) != 0) {
      return tl::make_unexpected(describe(address, group.port, errno));
    }
    group.sockets.push_back(std::move(socket));
  }
  return group;
}

}  // namespace bitnet::http
