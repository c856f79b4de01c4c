#include "config/load.hpp"

#include "config/options.hpp"

#include <boost/test/unit_test.hpp>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

using namespace bitnet::config;

namespace {

using variables = std::map<std::string, std::string>;

environment from(variables values) {
  return [values = std::move(values)](const std::string& name) -> std::optional<std::string> {
    const auto found = values.find(name);
    return found == values.end() ? std::nullopt : std::optional<std::string>{found->second};
  };
}

auto load_with(std::vector<std::string> arguments, variables values = {}) {
  arguments.insert(arguments.begin(), "--model=m.gguf");
  return load(arguments, from(std::move(values)));
}

std::string error_of(std::vector<std::string> arguments, variables values = {}) {
  const auto loaded = load_with(std::move(arguments), std::move(values));
  BOOST_REQUIRE(!loaded.has_value());
  BOOST_TEST(loaded.error().find('\n') == std::string::npos);
  return loaded.error();
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

class temporary_file {
 public:
  explicit temporary_file(std::string_view content) {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("bitnet-config-test-" + std::to_string(getpid()) + "-" + std::to_string(++count) + ".conf");
    std::ofstream{path_} << content;
  }
  ~temporary_file() { std::filesystem::remove(path_); }
  std::string flag() const { return "--config-file=" + path_.string(); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(config_load)

BOOST_AUTO_TEST_CASE(defaults_are_the_documented_ones) {
  const auto config = load_with({}).value().config;
  BOOST_TEST(config.model == "m.gguf");
  BOOST_TEST(config.http.address == "127.0.0.1");
  BOOST_TEST(config.http.port == 8080);
  BOOST_TEST(config.health.startup_grace.count() == 5'000);
  BOOST_TEST(!config.health.degraded_ok);
  BOOST_TEST(config.health.memory_degraded_percent == 80U);
  BOOST_TEST(config.health.memory_unhealthy_percent == 90U);
}

BOOST_AUTO_TEST_CASE(a_flag_wins_over_environment_over_file_over_default) {
  const temporary_file file{"[http]\nport = 1001\nthreads = 7\naddress = \"::1\"\n"};
  const variables env{{"BITNET_HTTP_PORT", "1002"}, {"BITNET_HTTP_THREADS", "8"}};
  const auto config = load_with({file.flag(), "--http.port=1003"}, env).value().config;
  BOOST_TEST(config.http.port == 1003);
  BOOST_TEST(config.http.threads == 8U);
  BOOST_TEST(config.http.address == "::1");
  BOOST_TEST(config.http.max_connections == 1024U);
}

BOOST_AUTO_TEST_CASE(the_file_may_be_named_by_the_environment) {
  const temporary_file file{"[health]\nstartup-grace = 2s\ndegraded-ok = true\n"};
  const auto config = load_with({}, {{"BITNET_CONFIG_FILE", file.path()}}).value().config;
  BOOST_TEST(config.health.startup_grace.count() == 2'000);
  BOOST_TEST(config.health.degraded_ok);
}

BOOST_AUTO_TEST_CASE(keys_without_a_section_are_read_from_the_file) {
  const temporary_file file{"model = \"other.gguf\"\n"};
  const auto loaded = load(std::vector<std::string>{file.flag()}, from({}));
  BOOST_TEST(loaded.value().config.model == "other.gguf");
}

BOOST_AUTO_TEST_CASE(a_boolean_flag_may_stand_alone) {
  BOOST_TEST(load_with({"--health.degraded-ok"}).value().config.health.degraded_ok);
}

BOOST_AUTO_TEST_CASE(an_unknown_key_is_named_with_its_origin_and_a_suggestion) {
  const auto flag_error = error_of({"--http.prot=1"});
  BOOST_TEST(contains(flag_error, "command line: unknown key 'http.prot'"));
  BOOST_TEST(contains(flag_error, "did you mean 'http.port'?"));
  const temporary_file file{"[htp]\nport = 1\n"};
  const auto file_error = error_of({file.flag()});
  BOOST_TEST(contains(file_error, file.path()));
  BOOST_TEST(contains(file_error, "'htp.port'"));
}

BOOST_AUTO_TEST_CASE(a_value_out_of_range_is_refused_wherever_it_comes_from) {
  BOOST_TEST(contains(error_of({"--http.port=65536"}), "http.port must be a whole number from 0 to 65535"));
  BOOST_TEST(contains(error_of({}, {{"BITNET_HTTP_THREADS", "0"}}),
                      "environment BITNET_HTTP_THREADS: http.threads"));
  const temporary_file file{"[engine]\nmax-sequences = 0\n"};
  BOOST_TEST(contains(error_of({file.flag()}), "engine.max-sequences"));
  BOOST_TEST(contains(error_of({"--engine.device=tpu"}), "auto, cpu, cuda or cuda:N"));
  BOOST_TEST(contains(error_of({"--engine.device=cuda:x"}), "engine.device"));
}

BOOST_AUTO_TEST_CASE(a_wrong_type_in_the_file_is_not_converted) {
  for (const auto* content :
       {"[http]\nport = \"8080\"\n", "[http]\nport = 80.5\n", "[http]\nport = [1]\n", "[http]\nport = true\n",
        "[http]\naddress = 1\n", "[health]\nstartup-grace = 5\n", "[health]\ndegraded-ok = \"true\"\n",
        "[http]\nport = -1\n"}) {
    const temporary_file file{content};
    BOOST_TEST(contains(error_of({file.flag()}), " must be "), content);
  }
}

BOOST_AUTO_TEST_CASE(a_broken_or_missing_file_is_refused) {
  const temporary_file file{"[http\nport == 1"};
  BOOST_TEST(contains(error_of({file.flag()}), "INI syntax"));
  BOOST_TEST(contains(error_of({"--config-file=/nonexistent/x.conf"}), "cannot be read"));
}

BOOST_AUTO_TEST_CASE(stray_arguments_and_missing_values_are_refused) {
  BOOST_TEST(contains(error_of({"model.gguf"}), "unexpected argument 'model.gguf'"));
  BOOST_TEST(contains(error_of({"--"}), "unexpected argument"));
  BOOST_TEST(contains(error_of({"--http.port"}), "needs a value"));
}

BOOST_AUTO_TEST_CASE(thresholds_must_be_in_order) {
  BOOST_TEST(contains(error_of({"--health.memory-degraded-percent=95"}), "must be less than"));
}

BOOST_AUTO_TEST_CASE(a_model_is_required_to_serve_but_not_to_ask) {
  BOOST_TEST(contains(load({}, from({})).error(), "--model=FILE"));
  BOOST_TEST((load(std::vector<std::string>{"--help"}, from({})).value().what == action::show_help));
  BOOST_TEST((load(std::vector<std::string>{"--dump-config"}, from({})).value().what == action::dump_config));
}

BOOST_AUTO_TEST_CASE(a_kubernetes_service_variable_is_explained) {
  BOOST_TEST(contains(error_of({}, {{"BITNET_HTTP_PORT", "tcp://10.0.0.1:80"}}), "enableServiceLinks"));
}

BOOST_AUTO_TEST_CASE(a_dumped_configuration_reads_back_the_same) {
  const auto config =
      load_with({"--http.port=1234", "--health.startup-grace=1500ms", "--engine.device=cuda:1",
                 "--health.degraded-ok", "--log.format=json", "--model=a \"b\".gguf"})
          .value()
          .config;
  const temporary_file file{dump(config)};
  const auto again = load(std::vector<std::string>{file.flag()}, from({})).value().config;
  for (const auto& option : options()) BOOST_TEST(option.get(again) == option.get(config), option.key);
}

BOOST_AUTO_TEST_CASE(every_option_reads_its_own_default_and_is_in_the_help) {
  const auto help = help_text("bitnet-server");
  const server_config defaults;
  for (const auto& option : options()) {
    BOOST_TEST_CONTEXT(option.key) {
      BOOST_TEST(contains(help, "--" + option.key + "="));
      BOOST_TEST(!option.help.empty());
      const auto value = option.get(defaults);
      server_config copy;
      if (!value.empty()) BOOST_TEST(option.set(copy, value).has_value());
    }
  }
}

BOOST_AUTO_TEST_CASE(model_directories_are_absolute_paths_and_not_for_clusters) {
  const std::vector<std::string> both{"/srv/a", "/srv/b c"};
  for (const auto* text : {"/srv/a,/srv/b c", "[/srv/a, /srv/b c]", "[\"/srv/a\", '/srv/b c',]"}) {
    const auto loaded = load_with({std::string("--models.directories=") + text});
    BOOST_REQUIRE_MESSAGE(loaded, (loaded ? "" : loaded.error()));
    BOOST_TEST(loaded->config.models.directories == both, boost::test_tools::per_element());
  }
  BOOST_TEST(load_with({"--models.directories=[]"})->config.models.directories.empty());
  BOOST_TEST(contains(error_of({"--models.directories=models"}), "models.directories"));
  BOOST_TEST(
      contains(error_of({"--models.directories=/srv", "--cluster.port=7400", "--cluster.insecure=true"}),
               "cluster.port"));
}

BOOST_AUTO_TEST_CASE(the_shipped_file_holds_the_defaults) {
  const auto loaded =
      load(std::vector<std::string>{"--config-file=config/bitnet-server.conf", "--dump-config"}, from({}));
  BOOST_REQUIRE(loaded.has_value());
  const server_config defaults;
  for (const auto& option : options())
    BOOST_TEST(option.get(loaded->config) == option.get(defaults), option.key);
}

BOOST_AUTO_TEST_SUITE_END()
