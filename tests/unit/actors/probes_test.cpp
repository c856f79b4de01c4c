#include "actors/probes/memory.hpp"
#include "actors/probes/process.hpp"

#include <boost/test/unit_test.hpp>

#include <unistd.h>

#include <map>
#include <string>
#include <vector>

using namespace bitnet::actors;

namespace {

constexpr std::string_view meminfo =
    "MemTotal:       8000000 kB\nMemFree:         100000 kB\nMemAvailable:   2000000 kB\nBuffers: 1 kB\n";

file_reader reader_of(std::map<std::string, std::string> files) {
  files.emplace("/proc/self/statm", "1000 250 100 1 0 2 0\n");
  files.emplace("/proc/meminfo", std::string(meminfo));
  return [files](const std::string& path) -> std::optional<std::string> {
    const auto found = files.find(path);
    if (found == files.end()) return std::nullopt;
    return found->second;
  };
}

}  // namespace

BOOST_AUTO_TEST_SUITE(memory_probe)

BOOST_AUTO_TEST_CASE(meminfo_is_read_in_kib) {
  const auto host = parse_meminfo(meminfo);
  BOOST_REQUIRE(host);
  BOOST_TEST(host->total_bytes == 8'192'000'000U);
  BOOST_TEST(host->available_bytes == 2'048'000'000U);
}

BOOST_AUTO_TEST_CASE(meminfo_without_its_keys_is_refused) {
  BOOST_TEST(!parse_meminfo(""));
  BOOST_TEST(!parse_meminfo("MemTotal: 5 kB\n"));
  BOOST_TEST(!parse_meminfo("MemTotal: x kB\nMemAvailable: 5 kB"));
}

BOOST_AUTO_TEST_CASE(stat_values_match_whole_keys) {
  constexpr std::string_view stat = "active_inactive_file 1\ninactive_file_x 2\ninactive_file 3\n";
  BOOST_TEST(parse_stat_value(stat, "inactive_file").value() == 3U);
  BOOST_TEST(!parse_stat_value(stat, "file"));
  BOOST_TEST(!parse_stat_value(stat, "inactive"));
}

BOOST_AUTO_TEST_CASE(no_limit_has_several_spellings) {
  BOOST_TEST(!parse_memory_limit("max\n"));
  BOOST_TEST(!parse_memory_limit("9223372036854771712\n"));
  BOOST_TEST(!parse_memory_limit(""));
  BOOST_TEST(parse_memory_limit("1048576\n").value() == 1048576U);
}

BOOST_AUTO_TEST_CASE(cgroup_paths_are_found_by_controller) {
  constexpr std::string_view text = "12:cpu,cpuacct:/c\n5:hugetlb,memory:/kube/pod1\n0::/unified\n";
  BOOST_TEST(parse_cgroup_path(text, "memory").value() == "/kube/pod1");
  BOOST_TEST(parse_cgroup_path(text, "cpuacct").value() == "/c");
  BOOST_TEST(parse_cgroup_path(text, "").value() == "/unified");
  BOOST_TEST(!parse_cgroup_path(text, "mem"));
}

BOOST_AUTO_TEST_CASE(without_cgroups_the_host_counts) {
  const auto m = measure_memory(reader_of({}));
  BOOST_REQUIRE(m);
  BOOST_TEST(m->limit_bytes == 8'192'000'000U);
  BOOST_TEST(m->used_bytes == 6'144'000'000U);
  BOOST_TEST(!m->limited_by_cgroup);
  BOOST_TEST(m->resident_bytes == 250U * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)));
}

BOOST_AUTO_TEST_CASE(version_2_limits_count_without_reclaimable_page_cache) {
  const auto m = measure_memory(reader_of({
      {"/proc/self/cgroup", "0::/a/b\n"},
      {"/sys/fs/cgroup/a/b/memory.max", "1000\n"},
      {"/sys/fs/cgroup/a/b/memory.current", "900\n"},
      {"/sys/fs/cgroup/a/b/memory.stat", "anon 5\ninactive_file 300\nslab_reclaimable 50\n"},
  }));
  BOOST_REQUIRE(m);
  BOOST_TEST(m->limited_by_cgroup);
  BOOST_TEST(m->limit_bytes == 1000U);
  BOOST_TEST(m->used_bytes == 550U);
}

BOOST_AUTO_TEST_CASE(the_fullest_ancestor_counts) {
  const auto m = measure_memory(reader_of({
      {"/proc/self/cgroup", "0::/a/b\n"},
      {"/sys/fs/cgroup/a/b/memory.max", "max\n"},
      {"/sys/fs/cgroup/a/b/memory.current", "900\n"},
      {"/sys/fs/cgroup/a/memory.max", "2000\n"},
      {"/sys/fs/cgroup/a/memory.current", "1900\n"},
      {"/sys/fs/cgroup/memory.max", "4000\n"},
      {"/sys/fs/cgroup/memory.current", "2000\n"},
  }));
  BOOST_REQUIRE(m);
  BOOST_TEST(m->limit_bytes == 2000U);
  BOOST_TEST(m->used_bytes == 1900U);
}

BOOST_AUTO_TEST_CASE(version_1_limits_are_read_where_version_2_has_none) {
  const auto m = measure_memory(reader_of({
      {"/proc/self/cgroup", "4:memory:/docker/x\n0::/\n"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000"},
      {"/sys/fs/cgroup/memory/memory.usage_in_bytes", "400"},
      {"/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n"},
  }));
  BOOST_REQUIRE(m);
  BOOST_TEST(m->limit_bytes == 1000U);
  BOOST_TEST(m->used_bytes == 300U);
}

BOOST_AUTO_TEST_CASE(reclaimable_above_usage_does_not_wrap_around) {
  const auto m = measure_memory(reader_of({
      {"/proc/self/cgroup", "0::/\n"},
      {"/sys/fs/cgroup/memory.max", "1000\n"},
      {"/sys/fs/cgroup/memory.current", "100\n"},
      {"/sys/fs/cgroup/memory.stat", "inactive_file 300\n"},
  }));
  BOOST_REQUIRE(m);
  BOOST_TEST(m->used_bytes == 0U);
}

BOOST_AUTO_TEST_CASE(an_unreadable_proc_gives_nothing_rather_than_zero) {
  BOOST_TEST(!measure_memory([](const std::string&) { return std::nullopt; }));
}

BOOST_AUTO_TEST_CASE(this_process_can_be_measured) {
  const auto before = measure_memory();
  BOOST_REQUIRE(before);
  std::vector<char> block(32 << 20, 'x');
  const auto after = measure_memory();
  BOOST_REQUIRE(after);
  BOOST_TEST(after->resident_bytes >= before->resident_bytes + (16U << 20));
  BOOST_TEST(after->used_bytes <= after->limit_bytes);
  BOOST_TEST(block[12345] == 'x');
}

BOOST_AUTO_TEST_CASE(cpu_time_grows_with_work) {
  const auto before = process_cpu_time();
  volatile std::uint64_t sum = 0;
  while (process_cpu_time() - before < std::chrono::milliseconds(20)) sum = sum + 1;
  BOOST_TEST((process_cpu_time() > before));
  BOOST_TEST(affinity_cpu_count() >= 1U);
}

BOOST_AUTO_TEST_SUITE_END()
