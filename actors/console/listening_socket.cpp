#include "actors/console/listening_socket.hpp"

#include <fmt/format.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace bitnet::console {

namespace {

std::string last_error() {
  return std::error_code(errno, std::generic_category()).message();
}

tl::expected<sockaddr_un, std::string> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return tl::unexpected(fmt::format("{}: longer than the {} bytes that a socket's path may have", path,
                                      sizeof address.sun_path - 1));
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

bool someone_listens(const sockaddr_un& address) {
  const descriptor probe{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  return probe && (connect(probe.get(), generic(address), sizeof address) == 0 || errno == EAGAIN);
}

/// Nothing where the path is free.
std::string clear_path(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode)) return "a file that is no socket is in the way";
  if (someone_listens(address)) return "another server listens there";
  return unlink(path.c_str()) == 0 ? std::string{} : last_error();
}

std::string make_parent(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path();
  if (parent.empty()) return {};
  if (mkdir(parent.c_str(), 0700) == 0) return {};
  if (errno != EEXIST) return fmt::format("cannot make {}: {}", parent.string(), last_error());
  // In a directory that others may write to, they could put a socket of theirs in our place.
  struct stat status {};
  if (stat(parent.c_str(), &status) != 0) return last_error();
  if (status.st_uid != geteuid() && status.st_uid != 0)
    return fmt::format("{} belongs to another user", parent.string());
  const bool others_write = (status.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (status.st_mode & S_ISVTX) == 0;
  if (others_write) return fmt::format("{} may be written to by others", parent.string());
  return {};
}

void set_timeouts(int fd, int timeout_ms) {
  const timeval limit{timeout_ms / 1000, timeout_ms % 1000 * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

bool is_loopback(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) != 0;
}

}  // namespace

tl::expected<descriptor, std::string> listen_unix(const std::string& path) {
  const auto fail = [&](const std::string& why) {
    return tl::unexpected(fmt::format("cannot listen on {}: {}", path, why));
  };
  const auto address = unix_address(path);
  if (!address) return tl::unexpected(address.error());
  if (const auto wrong = make_parent(path); !wrong.empty()) return fail(wrong);
  if (const auto wrong = clear_path(path, *address); !wrong.empty()) return fail(wrong);
  descriptor listener{socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  // The mode is set before anybody can connect: bind makes the file, only listen opens it.
  if (!listener || bind(listener.get(), generic(*address), sizeof *address) != 0 ||
      chmod(path.c_str(), 0600) != 0 || listen(listener.get(), 16) != 0)
    return fail(last_error());
  return listener;
}

tl::expected<descriptor, std::string> listen_loopback(const std::string& address, std::uint16_t port) {
  const auto fail = [&](const std::string& why) {
    return tl::unexpected(fmt::format("cannot listen on {} port {}: {}", address, port, why));
  };
  sockaddr_storage where{};
  socklen_t size = 0;
  auto& v4 = reinterpret_cast<sockaddr_in&>(where);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(where);
  if (inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    size = sizeof v4;
  } else if (inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    size = sizeof v6;
  } else {
    return fail("not an IP address");
  }
  if (!is_loopback(where)) return fail("the console listens on loopback addresses only");
  descriptor listener{socket(where.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  const int yes = 1;
  if (!listener || setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
      bind(listener.get(), reinterpret_cast<const sockaddr*>(&where), size) != 0 ||
      listen(listener.get(), 16) != 0)
    return fail(last_error());
  return listener;
}

std::uint16_t port_of(const descriptor& listener) {
  sockaddr_storage where{};
  socklen_t size = sizeof where;
  if (getsockname(listener.get(), reinterpret_cast<sockaddr*>(&where), &size) != 0) return 0;
  return ntohs(where.ss_family == AF_INET ? reinterpret_cast<const sockaddr_in&>(where).sin_port
                                          : reinterpret_cast<const sockaddr_in6&>(where).sin6_port);
}

tl::expected<descriptor, std::string> connect_unix(const std::string& path, int timeout_ms) {
  const auto address = unix_address(path);
  if (!address) return tl::unexpected(address.error());
  descriptor fd{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!fd) return tl::unexpected(last_error());
  set_timeouts(fd.get(), timeout_ms);
  if (connect(fd.get(), generic(*address), sizeof *address) != 0)
    return tl::unexpected(fmt::format("{}: {}", path, last_error()));
  return fd;
}

tl::expected<descriptor, std::string> connect_tcp(const std::string& host, const std::string& port,
                                                  int timeout_ms) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0)
    return tl::unexpected(fmt::format("{}:{}: {}", host, port, gai_strerror(error)));
  std::string why = "no address";
  for (const auto* each = found; each != nullptr; each = each->ai_next) {
    descriptor fd{socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (!fd) continue;
    set_timeouts(fd.get(), timeout_ms);  // Linux bounds connect by the time-out of sending
    if (connect(fd.get(), each->ai_addr, each->ai_addrlen) == 0) {
      freeaddrinfo(found);
      const int yes = 1;
      setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
      return fd;
    }
    why = errno == EINPROGRESS ? "no answer in time" : last_error();
  }
  freeaddrinfo(found);
  return tl::unexpected(fmt::format("{}:{}: {}", host, port, why));
}

}  // namespace bitnet::console
