#include "kernels/team.hpp"

#include "kernels/cpu_quota.hpp"

#include <boost/test/unit_test.hpp>

#include <sched.h>
#include <sys/resource.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

using namespace bitnet::kernels;

namespace {

namespace fs = std::filesystem;

/// A directory tree of control groups that goes away with the test.
class cgroup_files {
 public:
  cgroup_files() {
    std::string pattern = (fs::temp_directory_path() / "bitnet-cgroup-XXXXXX").string();
    BOOST_REQUIRE(mkdtemp(pattern.data()) != nullptr);
    root_ = pattern;
  }
  ~cgroup_files() { fs::remove_all(root_); }
  cgroup_files(const cgroup_files&) = delete;
  cgroup_files& operator=(const cgroup_files&) = delete;

  cgroup_files& write(const fs::path& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
    return *this;
  }

  std::optional<double> quota() const { return cgroup_cpu_quota(root_ / "proc", root_ / "sys"); }

 private:
  fs::path root_;
};

/// Restricts this thread, and those it starts, to one CPU for its lifetime.
class one_cpu {
 public:
  one_cpu() {
    BOOST_REQUIRE(sched_getaffinity(0, sizeof(before_), &before_) == 0);
    cpu_set_t first;
    CPU_ZERO(&first);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &before_)) {
        CPU_SET(cpu, &first);
        break;
      }
    BOOST_REQUIRE(sched_setaffinity(0, sizeof(first), &first) == 0);
  }
  ~one_cpu() { sched_setaffinity(0, sizeof(before_), &before_); }
  one_cpu(const one_cpu&) = delete;
  one_cpu& operator=(const one_cpu&) = delete;

 private:
  cpu_set_t before_;
};

/// Processor time of the whole process.
std::chrono::microseconds used_cpu_time() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto time = [](const timeval& t) {
    return std::chrono::seconds(t.tv_sec) + std::chrono::microseconds(t.tv_usec);
  };
  return time(usage.ru_utime) + time(usage.ru_stime);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(thread_team)

BOOST_AUTO_TEST_CASE(every_member_runs_once_with_its_own_index) {
  for (const std::size_t size : {1U, 2U, 3U, 8U}) {
    team threads(size);
    BOOST_TEST(threads.size() == size);
    // Plain memory on purpose: `run` orders it before and after, which ThreadSanitizer checks.
    std::vector<int> runs(size, 0);
    std::vector<std::size_t> sizes(size, 0);
    for (int round = 0; round < 20; ++round)
      threads.run([&](team_member& me) {
        ++runs[me.index()];
        sizes[me.index()] = me.size();
      });
    BOOST_TEST(runs == std::vector<int>(size, 20), boost::test_tools::per_element());
    BOOST_TEST(sizes == std::vector<std::size_t>(size, size), boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(shares_cover_the_range_in_order_and_evenly) {
  for (const std::size_t size : {1U, 2U, 3U, 7U})
    for (const std::size_t n : {0U, 1U, 2U, 6U, 7U, 100U}) {
      std::vector<work_range> shares(size);
      team threads(size);
      threads.run([&](team_member& me) { shares[me.index()] = me.share(n); });
      std::size_t next = 0;
      for (const work_range& share : shares) {
        BOOST_TEST(share.first == next);
        BOOST_TEST(share.last >= share.first);
        BOOST_TEST(share.last - share.first >= n / size);
        BOOST_TEST(share.last - share.first <= (n + size - 1) / size);
        next = share.last;
      }
      BOOST_TEST(next == n);
    }
}

BOOST_AUTO_TEST_CASE(barrier_shows_what_the_others_wrote) {
  constexpr std::size_t size = 4;
  constexpr int rounds = 2000;
  team threads(size);
  std::vector<int> written(size, 0);
  std::vector<int> wrong(size, 0);
  threads.run([&](team_member& me) {
    for (int round = 1; round <= rounds; ++round) {
      written[me.index()] = round;
      me.barrier();
      for (const int value : written) wrong[me.index()] += value != round ? 1 : 0;
      me.barrier();
    }
  });
  BOOST_TEST(std::accumulate(wrong.begin(), wrong.end(), 0) == 0);
}

BOOST_AUTO_TEST_CASE(members_may_wait_long_at_a_barrier) {
  team threads(3);
  std::vector<int> done(3, 0);
  threads.run([&](team_member& me) {
    // Well past the spinning: the others sleep when this one arrives.
    if (me.index() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    me.barrier();
    done[me.index()] = 1;
  });
  BOOST_TEST(std::accumulate(done.begin(), done.end(), 0) == 3);
}

BOOST_AUTO_TEST_CASE(threads_beyond_the_cpus_do_not_crawl) {
  const one_cpu only;
  const auto before = used_cpu_time();
  // On a thread of its own, so that its OpenMP threads are new and inherit the mask.
  std::thread owner([] {
    team threads(4);
    threads.run([](team_member& me) {
      for (int i = 0; i < 1000; ++i) me.barrier();
    });
  });
  owner.join();
  // Processor time, because other processes may make this one wait. Members that spin while those they wait
  // for have no CPU use up a time slice of milliseconds each, 1000 times.
  const auto used = used_cpu_time() - before;
  BOOST_TEST_MESSAGE("1000 barriers of 4 threads on one CPU: " << used.count() << " us of CPU time");
  BOOST_TEST(used.count() < 1'000'000);
}

BOOST_AUTO_TEST_CASE(an_idle_team_uses_no_cpu) {
  team threads(2);
  threads.run([](team_member& me) { me.barrier(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto before = used_cpu_time();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const auto used = used_cpu_time() - before;
  BOOST_TEST_MESSAGE("idle for 500 ms: " << used.count() << " us of CPU time");
  BOOST_TEST(used.count() < 5000);
}

BOOST_AUTO_TEST_CASE(teams_of_several_threads_do_not_disturb_each_other) {
  std::vector<std::thread> owners;
  std::vector<int> sums(3, 0);
  for (std::size_t owner = 0; owner < sums.size(); ++owner)
    owners.emplace_back([&sums, owner] {
      team threads(2);
      for (int round = 0; round < 50; ++round) {
        std::vector<int> parts(2, 0);
        threads.run([&](team_member& me) {
          parts[me.index()] = static_cast<int>(me.index()) + 1;
          me.barrier();
          if (me.index() == 0) sums[owner] += parts[0] + parts[1];
        });
      }
    });
  for (std::thread& owner : owners) owner.join();
  BOOST_TEST(sums == std::vector<int>({150, 150, 150}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_team_may_be_run_from_another_thread_than_made_it) {
  team threads(3);
  std::vector<int> runs(3, 0);
  const auto body = [&](team_member& me) { ++runs[me.index()]; };
  threads.run(body);
  std::thread other([&] { threads.run(body); });
  other.join();
  threads.run(body);
  BOOST_TEST(runs == std::vector<int>(3, 3), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(an_unused_team_ends) {
  for (const std::size_t size : {1U, 2U, 5U}) BOOST_TEST(team(size).size() == size);
}

BOOST_AUTO_TEST_CASE(default_size_follows_the_affinity_mask) {
  BOOST_TEST(team().size() == usable_cpu_count());
  const one_cpu only;
  BOOST_TEST(usable_cpu_count() == 1U);
  BOOST_TEST(team().size() == 1U);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(cpu_quota)

BOOST_AUTO_TEST_CASE(version_2_quota_is_read) {
  cgroup_files files;
  files.write("proc/cgroup", "0::/pod/container\n").write("sys/pod/container/cpu.max", "150000 100000\n");
  BOOST_TEST(files.quota().value() == 1.5);
}

BOOST_AUTO_TEST_CASE(the_tightest_parent_limits) {
  cgroup_files files;
  files.write("proc/cgroup", "0::/a/b/c\n")
      .write("sys/a/b/c/cpu.max", "max 100000\n")
      .write("sys/a/b/cpu.max", "400000 100000\n")
      .write("sys/a/cpu.max", "200000 100000\n");
  BOOST_TEST(files.quota().value() == 2.0);
}

BOOST_AUTO_TEST_CASE(a_container_reads_its_group_at_the_mount) {
  cgroup_files files;
  files.write("proc/cgroup", "0::/kubepods/pod1/abc\n").write("sys/cpu.max", "50000 100000\n");
  BOOST_TEST(files.quota().value() == 0.5);
}

BOOST_AUTO_TEST_CASE(paths_that_lead_out_of_the_mount_are_harmless) {
  cgroup_files files;
  files.write("proc/cgroup", "0::/../other\n").write("sys/cpu.max", "300000 100000\n");
  BOOST_TEST(files.quota().value() == 3.0);
}

BOOST_AUTO_TEST_CASE(version_1_quota_is_read) {
  cgroup_files files;
  files.write("proc/cgroup", "5:memory:/x\n4:cpu,cpuacct:/docker/1\n")
      .write("sys/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "250000\n")
      .write("sys/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n");
  BOOST_TEST(files.quota().value() == 2.5);
}

BOOST_AUTO_TEST_CASE(no_limit_is_no_quota) {
  cgroup_files files;
  BOOST_TEST(!files.quota());
  files.write("proc/cgroup", "1:cpuset,cpuacct:/x\n2:cpu:/x\n0::/x\n")
      .write("sys/cpu/x/cpu.cfs_quota_us", "-1\n")
      .write("sys/cpu/x/cpu.cfs_period_us", "100000\n")
      .write("sys/x/cpu.max", "max 100000\n");
  BOOST_TEST(!files.quota());
}

BOOST_AUTO_TEST_CASE(nonsense_is_no_quota) {
  cgroup_files files;
  files.write("proc/cgroup", "what\n0:\n0::/x\n").write("sys/x/cpu.max", "100000 0\n");
  BOOST_TEST(!files.quota());
  files.write("sys/x/cpu.max", "lots of it\n");
  BOOST_TEST(!files.quota());
}

BOOST_AUTO_TEST_SUITE_END()
