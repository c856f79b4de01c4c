#include "kernels/instruction_set.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>

using bitnet::kernels::instruction_set;

BOOST_AUTO_TEST_SUITE(instruction_sets)

BOOST_AUTO_TEST_CASE(names_parse_back_to_what_they_name) {
  for (const auto isa : {instruction_set::scalar, instruction_set::avx2, instruction_set::avx_vnni,
                         instruction_set::avx512_vnni, instruction_set::amx_int8}) {
    const auto parsed = bitnet::kernels::parse_instruction_set(to_string(isa));
    BOOST_REQUIRE(parsed.has_value());
    BOOST_TEST((*parsed == isa));
  }
}

BOOST_AUTO_TEST_CASE(unknown_names_are_refused) {
  for (const auto* name : {"", "AVX2", "avx", "avx2 ", "sse2"})
    BOOST_TEST(!bitnet::kernels::parse_instruction_set(name).has_value());
}

BOOST_AUTO_TEST_CASE(scalar_is_always_supported_and_the_best_comes_last) {
  const auto supported = bitnet::kernels::supported_instruction_sets();
  BOOST_REQUIRE(!supported.empty());
  BOOST_TEST((supported.front() == instruction_set::scalar));
  BOOST_TEST((supported.back() == bitnet::kernels::best_instruction_set()));
  BOOST_TEST(std::is_sorted(supported.begin(), supported.end()));
  for (const auto isa : supported) BOOST_TEST(bitnet::kernels::is_supported(isa));
}

#if defined(__x86_64__)
// The compiler's own detection is a second opinion on what CPUID and the operating system say.
BOOST_AUTO_TEST_CASE(detection_agrees_with_the_compiler_runtime) {
  __builtin_cpu_init();
  BOOST_TEST(bitnet::kernels::is_supported(instruction_set::avx2) ==
             (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")));
  BOOST_TEST(bitnet::kernels::is_supported(instruction_set::avx512_vnni) ==
             (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw")));
}
#endif

BOOST_AUTO_TEST_SUITE_END()
