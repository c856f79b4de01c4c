#include "config/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

namespace bitnet::config {

namespace {

using std::chrono::hours;

constexpr std::array<std::string_view, 2> isolations{"process", "thread"};
constexpr std::array<std::string_view, 3> priorities{"auto", "prompt", "normal"};
constexpr std::array<std::string_view, 6> kernel_names{"auto",     "scalar",      "avx2",
                                                       "avx_vnni", "avx512_vnni", "amx_int8"};
constexpr std::array<std::string_view, 3> head_formats{"int8", "f16", "screened"};
constexpr std::array<std::string_view, 3> decode_formats{"auto", "base3", "2bit"};
constexpr std::array<std::string_view, 6> log_levels{"trace", "debug", "info", "warning", "error", "off"};
constexpr std::array<std::string_view, 2> log_formats{"text", "json"};

// The makers below bind a field of server_config; `field` maps a (const) config to a reference.

template <class Field>
option text_option(std::string key, std::string hint, std::string help, Field field) {
  return {std::move(key),
          value_kind::text,
          std::move(hint),
          std::move(help),
          [field](server_config& c, std::string_view text) -> parsed<void> {
            if (text.empty()) return tl::unexpected(std::string{"must not be empty"});
            field(c) = std::string{text};
            return {};
          },
          [field](const server_config& c) { return field(c); }};
}

/// Empty: not set.
template <class Field>
option optional_text_option(std::string key, std::string hint, std::string help, Field field) {
  return {std::move(key),
          value_kind::text,
          std::move(hint),
          std::move(help),
          [field](server_config& c, std::string_view text) -> parsed<void> {
            field(c) = std::string{text};
            return {};
          },
          [field](const server_config& c) { return field(c); }};
}

/// Never shown again, not even by --dump-config.
template <class Field>
option secret_option(std::string key, std::string hint, std::string help, Field field) {
  auto o = optional_text_option(std::move(key), std::move(hint), std::move(help), field);
  o.get = [](const server_config&) { return std::string{}; };
  return o;
}

template <class Field>
option choice_option(std::string key, std::span<const std::string_view> choices, std::string help,
                     Field field) {
  auto hint = fmt::format("{}", fmt::join(choices.begin(), choices.end(), "|"));
  return {std::move(key),
          value_kind::text,
          std::move(hint),
          std::move(help),
          [field, choices](server_config& c, std::string_view text) -> parsed<void> {
            return parse_choice(text, choices).map([&](std::string v) { field(c) = std::move(v); });
          },
          [field](const server_config& c) { return field(c); }};
}

template <class Field>
option number_option(std::string key, std::uint64_t min, std::uint64_t max, std::string help, Field field) {
  return {std::move(key),
          value_kind::number,
          "N",
          std::move(help),
          [field, min, max](server_config& c, std::string_view text) -> parsed<void> {
            return parse_unsigned(text, min, max).map([&](std::uint64_t v) {
              field(c) = static_cast<std::remove_reference_t<decltype(field(c))>>(v);
            });
          },
          [field](const server_config& c) { return std::to_string(field(c)); }};
}

template <class Field>
option percent_option(std::string key, std::string help, Field field) {
  return {std::move(key),
          value_kind::real,
          "PERCENT",
          std::move(help),
          [field](server_config& c, std::string_view text) -> parsed<void> {
            return parse_real(text, 0.01, 100).map([&](double v) { field(c) = v; });
          },
          [field](const server_config& c) { return fmt::format("{}", field(c)); }};
}

template <class Field>
option bool_option(std::string key, std::string help, Field field) {
  return {std::move(key),
          value_kind::boolean,
          "true|false",
          std::move(help),
          [field](server_config& c, std::string_view text) -> parsed<void> {
            return parse_bool(text).map([&](bool v) { field(c) = v; });
          },
          [field](const server_config& c) { return field(c) ? "true" : "false"; }};
}

template <class Field>
option duration_option(std::string key, milliseconds min, milliseconds max, std::string help, Field field) {
  return {std::move(key),
          value_kind::duration,
          "TIME",
          std::move(help),
          [field, min, max](server_config& c, std::string_view text) -> parsed<void> {
            return parse_duration(text, min, max).map([&](milliseconds v) { field(c) = v; });
          },
          [field](const server_config& c) { return format_duration(field(c)); }};
}

/// What stands between commas, without spaces and quotes around it; nothing empty.
std::vector<std::string_view> list_items(std::string_view text) {
  std::vector<std::string_view> items;
  while (!text.empty()) {
    const auto comma = text.find(',');
    auto one = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    const auto is_frame = [](char x) { return x == ' ' || x == '"' || x == '\''; };
    while (!one.empty() && is_frame(one.front())) one.remove_prefix(1);
    while (!one.empty() && is_frame(one.back())) one.remove_suffix(1);
    if (!one.empty()) items.push_back(one);
  }
  return items;
}

/// DIRECTORY,DIRECTORY, also in brackets, as CAF writes lists.
option directories_option() {
  auto set = [](server_config& c, std::string_view text) -> parsed<void> {
    if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
    std::vector<std::string> directories;
    for (const auto one : list_items(text)) {
      if (!one.starts_with('/'))
        return tl::unexpected(fmt::format("must be absolute paths with commas between, not '{}'", one));
      directories.emplace_back(one);
    }
    c.models.directories = std::move(directories);
    return {};
  };
  return {"models.directories",
          value_kind::text,
          "[DIR,...]",
          "where POST /v1/models/load may take model files from; empty: models cannot be changed at run time",
          set,
          [](const server_config& c) { return fmt::format("[{}]", fmt::join(c.models.directories, ",")); }};
}

/// HOST:PORT,HOST:PORT, also in brackets, as CAF writes lists.
option seeds_option() {
  auto set = [](server_config& c, std::string_view text) -> parsed<void> {
    if (text.starts_with('[') && text.ends_with(']') &&
        (text.size() < 3 || text[1] != '[' || text.find(',') != text.npos || text.find("]:") == text.npos))
      text = text.substr(1, text.size() - 2);
    std::vector<std::string> seeds;
    for (const auto one : list_items(text)) {
      const auto colon = one.rfind(':');
      if (colon == std::string_view::npos || colon == 0 || !parse_unsigned(one.substr(colon + 1), 1, 65535))
        return tl::unexpected(fmt::format("must be HOST:PORT,HOST:PORT, not '{}'", one));
      seeds.emplace_back(one);
    }
    c.cluster.seeds = std::move(seeds);
    return {};
  };
  return {"cluster.seeds",
          value_kind::text,
          "[HOST:PORT,...]",
          "nodes to look for others at",
          set,
          [](const server_config& c) { return fmt::format("[{}]", fmt::join(c.cluster.seeds, ",")); }};
}

/// auto, cpu, cuda or cuda:N.
option device_option() {
  auto set = [](server_config& c, std::string_view text) -> parsed<void> {
    const bool numbered = text.starts_with("cuda:") && parse_unsigned(text.substr(5), 0, 63).has_value();
    if (text != "auto" && text != "cpu" && text != "cuda" && !numbered)
      return tl::unexpected(fmt::format("must be auto, cpu, cuda or cuda:N, not '{}'", text));
    c.engine.device = std::string{text};
    return {};
  };
  return {"engine.device",
          value_kind::text,
          "auto|cpu|cuda[:N]",
          "devices that run the model: auto and cuda take every GPU",
          set,
          [](const server_config& c) { return c.engine.device; }};
}

/// An address that only this machine reaches.
option console_address_option() {
  auto set = [](server_config& c, std::string_view text) -> parsed<void> {
    if (!text.starts_with("127.") && text != "::1")
      return tl::unexpected(fmt::format("must be a loopback address, 127.0.0.1 or ::1, not '{}'", text));
    c.console.address = std::string{text};
    return {};
  };
  return {"console.address",
          value_kind::text,
          "ADDRESS",
          "loopback address of console.port",
          set,
          [](const server_config& c) { return c.console.address; }};
}

// clang-format off
#define FIELD(path) [](auto& c) -> auto& { return c.path; }
// clang-format on

std::vector<option> declare() {
  std::vector<option> all;
  all.push_back(text_option("model", "FILE", "GGUF file of the ternary model to serve", FIELD(model)));
  all.push_back(directories_option());

  all.push_back(text_option("http.address", "ADDRESS", "address to listen on; 0.0.0.0 or :: for all",
                            FIELD(http.address)));
  all.push_back(
      number_option("http.port", 0, 65535, "port to listen on; 0 takes a free one", FIELD(http.port)));
  all.push_back(number_option("http.threads", 1, 256, "threads that serve HTTP", FIELD(http.threads)));
  all.push_back(number_option("http.max-connections", 1, 1'000'000,
                              "connections at once; more may only ask for health",
                              FIELD(http.max_connections)));
  all.push_back(
      number_option("http.max-body-kb", 1, 4096, "largest request body in KiB", FIELD(http.max_body_kb)));
  all.push_back(duration_option("http.header-timeout", milliseconds{100}, hours{1},
                                "time a client has to send a request", FIELD(http.header_timeout)));
  all.push_back(duration_option("http.idle-timeout", milliseconds{100}, hours{24},
                                "time a connection may stay open between requests",
                                FIELD(http.idle_timeout)));
  all.push_back(duration_option("http.write-timeout", milliseconds{100}, hours{1},
                                "time a client may take no byte of its answer", FIELD(http.write_timeout)));
  all.push_back(duration_option("http.sse-ping", milliseconds{0}, hours{1},
                                "a stream that is silent for so long gets a comment; 0: never",
                                FIELD(http.sse_ping)));

  all.push_back(
      choice_option("http.priority", priorities,
                    "how soon HTTP threads get a core; auto: real time where permitted, else prompt",
                    FIELD(http.priority)));
  all.push_back(optional_text_option("http.tls-certificate", "FILE",
                                     "PEM certificate chain; with http.tls-key: HTTPS only",
                                     FIELD(http.tls_certificate)));
  all.push_back(optional_text_option("http.tls-key", "FILE", "PEM private key of http.tls-certificate",
                                     FIELD(http.tls_key)));

  all.push_back(optional_text_option("access.key-file", "FILE",
                                     "API keys, a line each: NAME KEY [admin]; read again on SIGHUP",
                                     FIELD(access.key_file)));
  all.push_back(secret_option("access.keys", "NAME:KEY[:admin],...",
                              "more API keys; put them in the environment, where ps does not show them",
                              FIELD(access.keys)));
  all.push_back(number_option("access.requests-per-minute", 0, 1'000'000'000,
                              "API requests that a key may make; 0: no limit",
                              FIELD(access.requests_per_minute)));
  all.push_back(number_option("access.max-concurrent", 0, 1'000'000,
                              "API requests that a key may have in flight; 0: no limit",
                              FIELD(access.max_concurrent)));
  all.push_back(optional_text_option("access.cors-origins", "ORIGIN,...",
                                     "web origins whose pages may call the API; * for all",
                                     FIELD(access.cors_origins)));

  all.push_back(device_option());
  all.push_back(choice_option("engine.isolation", isolations,
                              "where the engine runs: a process can be killed and replaced, a thread cannot",
                              FIELD(engine.isolation)));
  all.push_back(text_option("engine.worker-binary", "FILE",
                            "bitnet-worker, for engine.isolation=process; auto: beside this program",
                            FIELD(engine.worker_binary)));
  all.push_back(number_option("engine.threads", 0, 1024, "threads of the engine; 0: every CPU it may use",
                              FIELD(engine.threads)));
  all.push_back(
      choice_option("engine.kernels", kernel_names, "instruction set of the kernels", FIELD(engine.kernels)));
  all.push_back(choice_option("engine.lm-head", head_formats,
                              "output projection; screened: a heuristic, faster", FIELD(engine.lm_head)));
  all.push_back(choice_option("engine.decode-weights", decode_formats,
                              "how weights lie in memory for few tokens; all give the same tokens",
                              FIELD(engine.decode_weights)));
  all.push_back(number_option("engine.max-sequences", 1, 1024, "sequences decoded together",
                              FIELD(engine.max_sequences)));
  all.push_back(number_option("engine.max-queued", 0, 100'000, "requests that may wait; more get 429",
                              FIELD(engine.max_queued)));
  all.push_back(number_option("engine.kv-cache-mb", 0, 16'777'216,
                              "memory of the KV cache in MiB; 0: automatic", FIELD(engine.kv_cache_mb)));
  all.push_back(number_option("engine.prefill-chunk", 1, 8192, "prompt tokens worked on in one step",
                              FIELD(engine.prefill_chunk)));
  all.push_back(duration_option("engine.replace-wait", milliseconds{0}, hours{1},
                                "time a new request waits while a worker is being replaced",
                                FIELD(engine.replace_wait)));
  all.push_back(duration_option("engine.resume-wait", milliseconds{0}, hours{1},
                                "time a stream waits for the next worker when its own was lost",
                                FIELD(engine.resume_wait)));

  all.push_back(duration_option("health.startup-grace", milliseconds{0}, hours{1},
                                "time after start in which /health/live answers 503",
                                FIELD(health.startup_grace)));
  all.push_back(
      bool_option("health.degraded-ok", "/health answers 200 when degraded", FIELD(health.degraded_ok)));
  all.push_back(percent_option("health.memory-degraded-percent", "memory use that counts as degraded",
                               FIELD(health.memory_degraded_percent)));
  all.push_back(percent_option("health.memory-unhealthy-percent", "memory use that counts as unhealthy",
                               FIELD(health.memory_unhealthy_percent)));

  all.push_back(number_option("cluster.port", 0, 65535, "port where other nodes connect; 0: no cluster",
                              FIELD(cluster.port)));
  all.push_back(text_option("cluster.address", "ADDRESS", "address to listen on for other nodes",
                            FIELD(cluster.address)));
  all.push_back(optional_text_option("cluster.advertise", "HOST[:PORT]",
                                     "where other nodes reach this one, as its certificate names it; empty: "
                                     "cluster.address and cluster.port",
                                     FIELD(cluster.advertise)));
  all.push_back(seeds_option());
  all.push_back(optional_text_option("cluster.dns", "NAME[:PORT]",
                                     "name whose addresses are all nodes, looked up again and again; port: "
                                     "cluster.port",
                                     FIELD(cluster.dns)));
  all.push_back(bool_option(
      "cluster.insecure", "plaintext between nodes and no question who they are; else the three files below",
      FIELD(cluster.insecure)));
  all.push_back(optional_text_option("cluster.tls-certificate", "FILE", "PEM: this node's certificate",
                                     FIELD(cluster.tls_certificate)));
  all.push_back(
      optional_text_option("cluster.tls-key", "FILE", "PEM: its private key", FIELD(cluster.tls_key)));
  all.push_back(optional_text_option("cluster.tls-ca", "FILE",
                                     "PEM: the authority that signs the certificates of nodes",
                                     FIELD(cluster.tls_ca)));

  all.push_back(text_option("console.socket", "auto|off|PATH",
                            "socket for bitnet-console; auto: in the runtime directory",
                            FIELD(console.socket)));
  all.push_back(console_address_option());
  all.push_back(number_option("console.port", 0, 65535,
                              "loopback port for bitnet-console, to read only; 0: none",
                              FIELD(console.port)));

  all.push_back(duration_option("drain.timeout", milliseconds{0}, hours{24},
                                "time that streams get to finish after SIGTERM", FIELD(drain.timeout)));

  all.push_back(
      choice_option("log.level", log_levels, "least severe message that is logged", FIELD(log.level)));
  all.push_back(
      choice_option("log.format", log_formats, "one line of text or of JSON an event", FIELD(log.format)));

  all.push_back(bool_option("debug.fault-injection",
                            "serve /debug/faults, which breaks this server on purpose; for tests and drills",
                            FIELD(debug.fault_injection)));
  all.push_back(bool_option("debug.unwatched",
                            "check nothing, to measure what the checks cost; such a server is never ready",
                            FIELD(debug.unwatched)));
  return all;
}

#undef FIELD

}  // namespace

std::string option::environment_name() const {
  std::string result = "BITNET_";
  for (const char c : key)
    result += c == '.' || c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return result;
}

std::string_view option::section() const noexcept {
  const auto dot = key.find('.');
  return dot == std::string::npos ? std::string_view{} : std::string_view{key}.substr(0, dot);
}

std::string_view option::name() const noexcept {
  const auto dot = key.find('.');
  return dot == std::string::npos ? std::string_view{key} : std::string_view{key}.substr(dot + 1);
}

std::span<const option> options() {
  static const std::vector<option> all = declare();
  return all;
}

const option* find_option(std::string_view key) {
  const auto all = options();
  const auto found = std::find_if(all.begin(), all.end(), [&](const option& o) { return o.key == key; });
  return found == all.end() ? nullptr : &*found;
}

}  // namespace bitnet::config
