// The main function of every unit test executable.
#define BOOST_TEST_MODULE bitnet
#include <boost/test/unit_test.hpp>
