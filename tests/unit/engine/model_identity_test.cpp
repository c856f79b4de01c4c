#include "engine/model_identity.hpp"

#include "engine/gguf.hpp"
#include "engine/system_memory.hpp"
#include "engine/weights.hpp"
#include "tests/support/memory_file.hpp"
#include "tests/support/synthetic_model.hpp"

#include <boost/test/unit_test.hpp>

#include <unistd.h>

#include <chrono>
#include <fstream>
#include <set>

using namespace bitnet::engine;
namespace fs = std::filesystem;

namespace {

/// A directory that goes away with the test.
class scratch_directory {
 public:
  scratch_directory() {
    std::string pattern = (fs::temp_directory_path() / "bitnet_test_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot create a directory");
    path_ = pattern;
  }
  ~scratch_directory() { fs::remove_all(path_); }
  fs::path operator/(std::string_view name) const { return path_ / name; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void write(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::trunc) << text;
}

std::unique_ptr<model_weights> tiny_weights(const load_options& options = {}) {
  bitnet::tests::synthetic_model shape;
  shape.tied_embeddings = false;
  const bitnet::tests::memory_file file(make_synthetic_model(shape).bytes());
  const auto opened = gguf_file::open(file.path());
  BOOST_REQUIRE(opened.has_value());
  auto weights = load_weights(*opened, options);
  BOOST_REQUIRE(weights.has_value());
  return std::move(*weights);
}

/// Goes round once in steps of `slice`; names what was found changed.
std::set<std::string> one_round(weight_scrubber& scrubber, std::size_t slice) {
  std::set<std::string> changed;
  const std::uint64_t round = scrubber.completed_rounds();
  while (scrubber.completed_rounds() == round) {
    if (auto name = scrubber.step(slice)) changed.insert(*name);
  }
  return changed;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(model_identity)

BOOST_AUTO_TEST_CASE(tells_what_happened_to_a_file) {
  const scratch_directory directory;
  const fs::path path = directory / "model.gguf";
  write(path, "0123456789");
  const auto loaded = identify_file(path);
  BOOST_REQUIRE(loaded.has_value());
  BOOST_TEST(loaded->size_bytes == 10U);
  BOOST_TEST((detect_change(path, *loaded) == file_change::none));

  fs::resize_file(path, 5);
  BOOST_TEST((detect_change(path, *loaded) == file_change::truncated));
  fs::resize_file(path, 10);
  fs::last_write_time(path, fs::file_time_type::clock::now() + std::chrono::hours(1));
  BOOST_TEST((detect_change(path, *loaded) == file_change::modified));

  fs::rename(path, directory / "old.gguf");
  BOOST_TEST((detect_change(path, *loaded) == file_change::missing));
  write(path, "0123456789");
  BOOST_TEST((detect_change(path, *loaded) == file_change::replaced));
}

BOOST_AUTO_TEST_CASE(an_open_file_knows_its_identity) {
  const scratch_directory directory;
  const fs::path path = directory / "model.gguf";
  write_synthetic_model(bitnet::tests::synthetic_model(), path);
  const auto file = gguf_file::open(path);
  BOOST_REQUIRE(file.has_value());
  BOOST_TEST((detect_change(path, (*file)->identity()) == file_change::none));
  BOOST_TEST((*file)->size_bytes() == fs::file_size(path));
}

BOOST_AUTO_TEST_CASE(sound_weights_stay_sound_whatever_the_slice) {
  const auto weights = tiny_weights();
  weight_scrubber scrubber(*weights);
  for (const std::size_t slice : {std::size_t{1000}, std::size_t{65536}, std::size_t{1} << 30})
    BOOST_TEST(one_round(scrubber, slice).empty());
  BOOST_TEST(scrubber.completed_rounds() == 3U);
  BOOST_TEST(scrubber.total_bytes() > weights->bytes_read_per_step());
}

BOOST_AUTO_TEST_CASE(one_flipped_bit_in_any_region_is_found_and_named) {
  load_options options;
  options.screen_head = true;
  const auto weights = tiny_weights(options);
  weight_scrubber scrubber(*weights);
  std::size_t count = 0;
  for (const weight_region& region : weight_regions(*weights)) {
    auto* bytes = const_cast<std::byte*>(region.bytes.data());
    for (const std::size_t place : {std::size_t{0}, region.bytes.size() / 2, region.bytes.size() - 1}) {
      bytes[place] ^= std::byte{0x10};
      BOOST_TEST((one_round(scrubber, 1U << 20) == std::set<std::string>{region.name}),
                 region.name << " at " << place);
      bytes[place] ^= std::byte{0x10};
    }
    ++count;
  }
  // Embedding, head, its scales, the screen's codes, rows and factors, the last norm, and eleven of each of
  // two blocks.
  BOOST_TEST(count == 7U + 2U * 11U);
  BOOST_TEST(one_round(scrubber, 1U << 20).empty());
}

BOOST_AUTO_TEST_CASE(a_changed_scale_is_found) {
  const auto weights = tiny_weights();
  weight_scrubber scrubber(*weights);
  auto& matrix = weights->blocks[1].ffn_down;
  const float scale = matrix.scale();
  matrix.set_scale(scale * 1.0001F);
  // Scales are looked up when a round begins.
  one_round(scrubber, 1U << 20);
  BOOST_TEST((one_round(scrubber, 1U << 20) == std::set<std::string>{"blk.1.ffn_down.weight"}));
  matrix.set_scale(scale);
  one_round(scrubber, 1U << 20);
  BOOST_TEST(one_round(scrubber, 1U << 20).empty());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(system_memory)

BOOST_AUTO_TEST_CASE(measures_this_machine) {
  BOOST_TEST(available_memory_bytes() > 1U << 20);
  BOOST_TEST(available_memory_bytes() < std::uint64_t{1} << 50);
}

BOOST_AUTO_TEST_CASE(takes_the_machine_without_limits) {
  const scratch_directory root;
  write(root / "proc/meminfo", "MemTotal:  100 kB\nMemAvailable:   40 kB\n");
  BOOST_TEST(available_memory_bytes(root.path()) == 40U * 1024);
  write(root / "proc/self/cgroup", "0::/a/b\n");
  write(root / "sys/fs/cgroup/a/b/memory.max", "max\n");
  write(root / "sys/fs/cgroup/a/b/memory.current", "5000\n");
  BOOST_TEST(available_memory_bytes(root.path()) == 40U * 1024);
}

BOOST_AUTO_TEST_CASE(takes_the_tightest_cgroup_and_counts_page_cache_as_free) {
  const scratch_directory root;
  write(root / "proc/meminfo", "MemAvailable: 1000000 kB\n");
  write(root / "proc/self/cgroup", "0::/pod/container\n");
  write(root / "sys/fs/cgroup/pod/container/memory.max", "900000\n");
  write(root / "sys/fs/cgroup/pod/container/memory.current", "500000\n");
  BOOST_TEST(available_memory_bytes(root.path()) == 400000U);
  write(root / "sys/fs/cgroup/pod/container/memory.stat",
        "anon 1\nactive_file 20000\ninactive_file 100000\n");
  BOOST_TEST(available_memory_bytes(root.path()) == 520000U);
  write(root / "sys/fs/cgroup/pod/memory.max", "600000\n");
  write(root / "sys/fs/cgroup/pod/memory.current", "550000\n");
  BOOST_TEST(available_memory_bytes(root.path()) == 50000U);
  write(root / "sys/fs/cgroup/pod/memory.current", "700000\n");
  BOOST_TEST(available_memory_bytes(root.path()) == 0U);
}

BOOST_AUTO_TEST_CASE(a_container_sees_its_limit_at_the_root) {
  const scratch_directory root;
  write(root / "proc/meminfo", "MemAvailable: 1000000 kB\n");
  write(root / "proc/self/cgroup", "0::/\n");
  write(root / "sys/fs/cgroup/memory.max", "300000\n");
  write(root / "sys/fs/cgroup/memory.current", "100000\n");
  BOOST_TEST(available_memory_bytes(root.path()) == 200000U);
}

BOOST_AUTO_TEST_SUITE_END()
