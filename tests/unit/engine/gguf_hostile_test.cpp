// Every damaged file must load or give an error; AddressSanitizer and the process's life are the check.

#include "engine/gguf.hpp"
#include "engine/weights.hpp"
#include "tests/support/memory_file.hpp"
#include "tests/support/synthetic_model.hpp"

#include <boost/test/unit_test.hpp>

#include <random>

using namespace bitnet::engine;
using bitnet::tests::memory_file;

namespace {

std::string smallest_model() {
  return make_synthetic_model(*bitnet::tests::synthetic_shape("smallest")).bytes();
}

/// Loads on one thread. True where the file was taken.
bool loads(std::string_view bytes) {
  const memory_file file(bytes);
  const auto opened = gguf_file::open(file.path());
  if (!opened) {
    BOOST_TEST_REQUIRE(!opened.error().message.empty());
    return false;
  }
  load_options options;
  options.threads = 1;
  const auto weights = load_weights(*opened, options);
  if (!weights) {
    BOOST_TEST_REQUIRE(!weights.error().message.empty());
    return false;
  }
  return true;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(gguf_hostile)

BOOST_AUTO_TEST_CASE(a_file_cut_anywhere_is_refused) {
  const std::string whole = smallest_model();
  BOOST_REQUIRE(loads(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    // Inside tensor data one byte is like another.
    if (size > 12000 && size % 97 != 0 && size + 64 < whole.size()) continue;
    BOOST_TEST_REQUIRE(!loads(std::string_view(whole).substr(0, size)), "taken with " << size << " bytes");
  }
}

BOOST_AUTO_TEST_CASE(flipped_bits_never_crash) {
  const std::string whole = smallest_model();
  const std::size_t metadata = whole.find("token_embd.weight");
  std::mt19937_64 random(20240607);
  int taken = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    const int flips = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < flips; ++i) {
      // Mostly in the header and the tensor table, which is where it hurts.
      const std::size_t area = random() % 4 == 0 ? damaged.size() : std::min(damaged.size(), metadata + 1200);
      damaged[random() % area] ^= static_cast<char>(1U << random() % 8);
    }
    taken += loads(damaged) ? 1 : 0;
  }
  // Both outcomes occur, so the test tests something.
  BOOST_TEST(taken > 50);
  BOOST_TEST(taken < 2950);
}

BOOST_AUTO_TEST_CASE(overwritten_numbers_never_crash) {
  const std::string whole = smallest_model();
  const std::size_t end = std::min(whole.size(), whole.find("token_embd.weight") + 1200);
  const std::uint64_t values[] = {0,          1,          0x7F,       0xFF,       0x7FFFFFFF,
                                  0xFFFFFFFF, 1ULL << 32, ~0ULL >> 1, 1ULL << 63, ~0ULL};
  for (std::size_t place = 4; place + 8 <= end; place += place < 600 || place + 1400 > end ? 1 : 29) {
    for (const std::uint64_t value : values) {
      std::string damaged = whole;
      damaged.replace(place, 8, reinterpret_cast<const char*>(&value), 8);
      loads(damaged);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
