#include "actors/model_directories.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

using namespace bitnet::actors;
namespace fs = std::filesystem;
using namespace std::string_literals;

namespace {

struct directories_fixture {
  fs::path top = fs::temp_directory_path() / ("bitnet-model-directories-" + std::to_string(getpid()));
  fs::path first = top / "first";
  fs::path second = top / "second";
  fs::path outside = top / "outside";
  model_directories allowed;

  directories_fixture() {
    for (const auto& folder : {first / "deep", second, outside, top / "first-too"})
      fs::create_directories(folder);
    for (const auto& file : {first / "a.gguf", first / "deep/b.gguf", second / "c.gguf", second / "a.gguf",
                             outside / "secret.gguf", top / "first-too/d.gguf"})
      std::ofstream(file) << "GGUF";
    fs::create_symlink(outside / "secret.gguf", first / "escape.gguf");
    fs::create_symlink(outside, first / "way-out");
    fs::create_symlink(second / "c.gguf", first / "to-second.gguf");
    fs::create_symlink("deep/b.gguf", first / "inner.gguf");
    fs::create_symlink("nowhere.gguf", first / "dangling.gguf");
    fs::create_directory_symlink(second, top / "link-to-second");
    mkfifo((first / "pipe.gguf").c_str(), 0600);
    allowed = *model_directories::open({first.string(), (top / "link-to-second").string()});
  }
  ~directories_fixture() { fs::remove_all(top); }

  error_code refusal(const std::string& name) {
    const auto found = allowed.resolve(name);
    return found ? error_code::none : found.error().code;
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(model_directories_rules, directories_fixture)

BOOST_AUTO_TEST_CASE(names_and_absolute_paths_are_found_in_order) {
  BOOST_TEST(allowed.resolve("a.gguf").value() == fs::canonical(first / "a.gguf"));
  BOOST_TEST(allowed.resolve("deep/b.gguf").value() == fs::canonical(first / "deep/b.gguf"));
  BOOST_TEST(allowed.resolve("./deep/../a.gguf").value() == fs::canonical(first / "a.gguf"));
  BOOST_TEST(allowed.resolve("c.gguf").value() == fs::canonical(second / "c.gguf"));
  BOOST_TEST(allowed.resolve((second / "a.gguf").string()).value() == fs::canonical(second / "a.gguf"));
}

BOOST_AUTO_TEST_CASE(links_are_followed_first_and_may_lead_from_one_directory_to_another) {
  BOOST_TEST(allowed.resolve("inner.gguf").value() == fs::canonical(first / "deep/b.gguf"));
  BOOST_TEST((refusal("escape.gguf") == error_code::path_not_allowed));
  BOOST_TEST((refusal("way-out/secret.gguf") == error_code::path_not_allowed));
  BOOST_TEST((refusal((top / "link-to-second/c.gguf").string()) == error_code::none));
  BOOST_TEST((refusal((first / "to-second.gguf").string()) == error_code::none));
}

BOOST_AUTO_TEST_CASE(nothing_is_told_of_files_elsewhere) {
  for (const auto& name :
       {"../outside/secret.gguf"s, "../outside/none.gguf"s, (outside / "secret.gguf").string(),
        (outside / "none.gguf").string(), "way-out/none.gguf"s, "way-out/../none"s, "/etc/passwd"s,
        "/no/such"s, "../first-too/d.gguf"s, (top / "first-too/d.gguf").string(), "dangling.gguf"s, ".."s,
        "deep/../../x"s}) {
    BOOST_TEST_CONTEXT(name) {
      BOOST_TEST((refusal(name) == error_code::path_not_allowed));
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_missing_inside_is_said_to_be_missing) {
  BOOST_TEST((refusal("none.gguf") == error_code::file_not_found));
  BOOST_TEST((refusal("deep/none.gguf") == error_code::file_not_found));
  BOOST_TEST((refusal((first / "none.gguf").string()) == error_code::file_not_found));
}

BOOST_AUTO_TEST_CASE(only_regular_files_are_models) {
  BOOST_TEST((refusal("deep") == error_code::file_malformed));
  BOOST_TEST((refusal("pipe.gguf") == error_code::file_malformed));
}

BOOST_AUTO_TEST_CASE(names_that_name_nothing_are_refused_before_anything_is_asked) {
  BOOST_TEST((refusal("") == error_code::invalid_request));
  BOOST_TEST((refusal("a.gguf\0/etc"s) == error_code::invalid_request));
  BOOST_TEST((refusal(std::string(5000, 'a')) == error_code::invalid_request));
  BOOST_TEST((refusal(std::string(300, 'a')) != error_code::none));
  BOOST_TEST(allowed.resolve("x\ny\x1b[31m").error().message.find_first_of("\n\x1b") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(directories_that_cannot_be_used_are_refused_at_the_start) {
  for (const auto& path : {(top / "none").string(), (first / "a.gguf").string(), "relative"s})
    BOOST_TEST(model_directories::open({path}).error().find("models.directories") == 0U);
  BOOST_TEST(model_directories::open({}).value().empty());
  BOOST_TEST((model_directories().resolve("a.gguf").error().code == error_code::path_not_allowed));
}

BOOST_AUTO_TEST_SUITE_END()
