#include "tests/support/same_bits.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <limits>
#include <vector>

using bitnet::test::first_difference;

// The comparator of the kernel tests: one that cannot fail would make them worthless.
BOOST_AUTO_TEST_SUITE(same_bits)

BOOST_AUTO_TEST_CASE(equal_bits_compare_equal_also_where_they_are_nan) {
  const std::vector<float> values{-1.0F, 0.0F, std::numeric_limits<float>::quiet_NaN(),
                                  -std::numeric_limits<float>::infinity()};
  BOOST_TEST(!first_difference(values, values).has_value());
  BOOST_TEST(!first_difference({}, {}).has_value());
}

BOOST_AUTO_TEST_CASE(one_element_off_by_one_bit_is_found) {
  for (std::size_t at = 0; at < 5; ++at) {
    const std::vector<float> a{-2.5F, -0.5F, 3.0F, -1e-30F, 7.0F};
    std::vector<float> b = a;
    b[at] = std::nextafter(b[at], 100.0F);
    BOOST_TEST(first_difference(a, b).value() == at);
  }
}

BOOST_AUTO_TEST_CASE(signs_of_zero_and_of_numbers_count) {
  BOOST_TEST(first_difference(std::vector{0.0F}, std::vector{-0.0F}).value() == 0U);
  BOOST_TEST(first_difference(std::vector{-1.0F}, std::vector{1.0F}).value() == 0U);
}

BOOST_AUTO_TEST_CASE(nan_against_a_number_or_another_nan_differs) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  BOOST_TEST(first_difference(std::vector{nan}, std::vector{1.0F}).value() == 0U);
  BOOST_TEST(first_difference(std::vector{nan}, std::vector{-nan}).value() == 0U);
}

BOOST_AUTO_TEST_CASE(a_shorter_span_differs_at_its_end) {
  BOOST_TEST(first_difference(std::vector{1.0F}, std::vector{1.0F, 2.0F}).value() == 1U);
}

BOOST_AUTO_TEST_SUITE_END()
