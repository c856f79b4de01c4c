// What the process table costs a message: the same actor with and without the instrumented base, in turns, so
// that what else the machine does hits both alike. Prints medians and the median of the paired differences.
//
// Usage: introspection_bench [ROUNDS [MESSAGES]]

#include "actors/introspection/instrumented.hpp"
#include "actors/messages.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <future>
#include <vector>

using namespace bitnet::actors;

namespace {

/// Nanoseconds a message of an actor that sends itself `messages` ticks, one after the other.
template <class Actor>
double run(caf::actor_system& system, std::uint64_t messages) {
  std::promise<void> done;
  auto finished = done.get_future();
  const auto began = std::chrono::steady_clock::now();
  auto handle = system.spawn([&done, messages](Actor* self) -> caf::behavior {
    self->send(self, tick_atom_v, messages);
    return {[self, &done](tick_atom, std::uint64_t left) {
      if (left == 0) {
        done.set_value();
        self->quit();
        return;
      }
      self->send(self, tick_atom_v, left - 1);
    }};
  });
  finished.wait();
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - began;
  return took.count() / static_cast<double>(messages);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::uint64_t argument(int argc, char** argv, int index, std::uint64_t otherwise) {
  return argc > index ? std::strtoull(argv[index], nullptr, 10) : otherwise;
}

}  // namespace

int main(int argc, char** argv) {
  const auto rounds = std::max<std::uint64_t>(argument(argc, argv, 1, 31), 1);
  const auto messages = std::max<std::uint64_t>(argument(argc, argv, 2, 200'000), 1);
  introspected_config config;
  config.config_file_path.clear();
  config.add_message_types<caf::id_block::bitnet>();
  config.set("scheduler.policy", caf::atom("sharing"));
  config.set("scheduler.max-threads", std::size_t{1});
  caf::actor_system system{config};
  std::vector<double> plain;
  std::vector<double> instrumented;
  std::vector<double> difference;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    plain.push_back(run<caf::event_based_actor>(system, messages));
    instrumented.push_back(run<instrumented_actor>(system, messages));
    difference.push_back(instrumented.back() - plain.back());
  }
  fmt::print(
      "plain {:.0f} ns, instrumented {:.0f} ns, difference {:.0f} ns a message (medians of {} rounds of "
      "{})\n",
      median(plain), median(instrumented), median(difference), rounds, messages);
  return 0;
}
