#include "http/thread_priority.hpp"

#include <boost/test/unit_test.hpp>

#include <sched.h>

#include <thread>

using namespace bitnet::http;

namespace {

struct outcome {
  effective_priority priority;
  int policy;
};

outcome in_a_thread(thread_priority wanted) {
  outcome o{};
  std::thread{[&] {
    o.priority = apply(wanted);
    o.policy = ::sched_getscheduler(0);
  }}.join();
  return o;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(http_thread_priority)

BOOST_AUTO_TEST_CASE(the_effective_priority_is_what_the_kernel_says) {
  const auto got = in_a_thread(thread_priority::automatic);
  const int expected = SCHED_RR | SCHED_RESET_ON_FORK;
  BOOST_TEST((got.policy == expected) == (got.priority == effective_priority::real_time));
}

BOOST_AUTO_TEST_CASE(only_automatic_takes_real_time) {
  const auto prompt = in_a_thread(thread_priority::prompt);
  BOOST_TEST((prompt.priority != effective_priority::real_time));
  BOOST_TEST(prompt.policy == SCHED_OTHER);
  const auto normal = in_a_thread(thread_priority::normal);
  BOOST_TEST((normal.priority == effective_priority::normal));
  BOOST_TEST(normal.policy == SCHED_OTHER);
}

BOOST_AUTO_TEST_SUITE_END()
