#include "apps/bitnet_console/session.hpp"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace bitnet::console {

namespace {

/// Keys one by one and unechoed, while it lives; Ctrl-C is a key.
class single_keys {
 public:
  single_keys() : changed_(tcgetattr(STDIN_FILENO, &before_) == 0) {
    auto raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
    if (changed_) tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  }
  ~single_keys() {
    if (changed_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  single_keys(const single_keys&) = delete;
  single_keys& operator=(const single_keys&) = delete;

 private:
  termios before_{};
  bool changed_;
};

}  // namespace

bool stopped_within(double seconds, bool interactive) {
  const std::chrono::duration<double> wait(seconds);
  if (!interactive) {
    std::this_thread::sleep_for(wait);
    return false;
  }
  const single_keys keys;
  const auto deadline = std::chrono::steady_clock::now() + wait;
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd in{STDIN_FILENO, POLLIN, 0};
    if (left.count() <= 0 || poll(&in, 1, static_cast<int>(left.count())) <= 0) return false;
    char key = 0;
    if (read(STDIN_FILENO, &key, 1) <= 0) return true;
    if (key == 'q' || key == '\n' || key == '\r' || key == 3 || key == 4) return true;
  }
}

}  // namespace bitnet::console
