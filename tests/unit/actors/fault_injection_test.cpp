#include "actors/fault_injection.hpp"

#include <boost/test/unit_test.hpp>

using namespace bitnet::actors;

BOOST_AUTO_TEST_SUITE(fault_injection_rules)

BOOST_AUTO_TEST_CASE(a_declared_fault_is_caused_with_its_parameters) {
  fault_injection faults;
  double seconds = 0;
  faults.declare({"hang", "stops for a while", [&](const fault_request& r) -> fault_outcome {
                    const auto value = r.number("seconds", 1, 0, 60);
                    if (!value) return tl::unexpected(value.error());
                    seconds = *value;
                    return "hangs";
                  }});
  const auto done = faults.cause({"hang", {{"seconds", "2.5"}}});
  BOOST_REQUIRE(done);
  BOOST_TEST(*done == "hangs");
  BOOST_TEST(seconds == 2.5);
  BOOST_TEST(faults.cause({"hang", {}}).has_value());
  BOOST_TEST(seconds == 1.0);
}

BOOST_AUTO_TEST_CASE(an_unknown_fault_is_refused_with_the_names_of_the_known) {
  fault_injection faults;
  faults.declare({"hang", "", [](const fault_request&) -> fault_outcome { return "x"; }});
  faults.declare({"crash", "", [](const fault_request&) -> fault_outcome { return "x"; }});
  BOOST_TEST(faults.cause({"meltdown", {}}).error() == "there is no fault 'meltdown'; known: crash, hang");
  BOOST_TEST(faults.declared().size() == 2U);
}

BOOST_AUTO_TEST_CASE(numbers_out_of_range_and_words_are_refused) {
  for (const auto* text : {"-1", "61", "nan", "inf", "", "1x", "one"}) {
    const fault_request r{"hang", {{"seconds", text}}};
    BOOST_TEST(!r.number("seconds", 1, 0, 60).has_value(), text);
  }
  const fault_request r{"crash", {{"how", "burn"}}};
  BOOST_TEST(r.choice("how", "abort", {"abort", "segv"}).error() ==
             "'how' must be one of abort, segv, not 'burn'");
  BOOST_TEST(r.choice("other", "abort", {"abort", "segv"}).value() == "abort");
}

BOOST_AUTO_TEST_SUITE_END()
