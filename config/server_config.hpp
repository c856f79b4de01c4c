#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bitnet::config {

using std::chrono::milliseconds;

/// Everything an operator can set. The defaults here are the documented ones; config/options.cpp declares for
/// each field its key, range and help, and nothing else in the server reads a flag, a file or the
/// environment.
struct server_config {
  std::string model;  ///< path of the GGUF file

  struct models_section {
    std::vector<std::string> directories;  ///< absolute; empty: models cannot be changed at run time
  } models;

  struct http_section {
    std::string address = "127.0.0.1";
    std::uint16_t port = 8080;  ///< 0: any free port, printed at start
    std::size_t threads = 2;
    std::size_t max_connections = 1024;
    std::size_t max_body_kb = 4096;
    milliseconds header_timeout{10'000};
    milliseconds idle_timeout{75'000};
    milliseconds write_timeout{30'000};
    milliseconds sse_ping{15'000};
    std::string priority = "auto";  ///< auto, prompt or normal
    std::string tls_certificate;    ///< PEM file; empty: plain HTTP
    std::string tls_key;
  } http;

  struct access_section {
    std::string key_file;  ///< empty: none
    std::string keys;      ///< secret
    std::uint64_t requests_per_minute = 0;
    std::size_t max_concurrent = 0;
    std::string cors_origins;
  } access;

  struct engine_section {
    std::string device = "auto";          ///< auto, cpu, or cuda[:N]
    std::string isolation = "process";    ///< process or thread
    std::string worker_binary = "auto";   ///< path of bitnet-worker; auto: beside the server's own executable
    std::size_t threads = 0;              ///< 0: all CPUs this process may use
    std::string kernels = "auto";         ///< auto, or an instruction set's name
    std::string lm_head = "int8";         ///< int8, f16 or screened
    std::string decode_weights = "auto";  ///< auto, base3 or 2bit
    std::size_t max_sequences = 16;
    std::size_t max_queued = 256;
    std::size_t kv_cache_mb = 0;  ///< 0: chosen from the context length and the memory at hand
    std::size_t prefill_chunk = 256;
    milliseconds replace_wait{5'000};  ///< of a new request for a worker that is being replaced
    milliseconds resume_wait{60'000};  ///< of a stream for the next worker
  } engine;

  struct health_section {
    milliseconds startup_grace{5'000};
    bool degraded_ok = false;
    double memory_degraded_percent = 80;
    double memory_unhealthy_percent = 90;
  } health;

  struct cluster_section {
    std::uint16_t port = 0;  ///< 0: no cluster
    std::string address = "127.0.0.1";
    std::string advertise;           ///< host or host:port; empty: address and port
    std::vector<std::string> seeds;  ///< host:port
    std::string dns;                 ///< host, or host:port; empty: none
    bool insecure = false;
    std::string tls_certificate;
    std::string tls_key;
    std::string tls_ca;
  } cluster;

  struct console_section {
    std::string socket = "auto";  ///< auto, off, or a path
    std::string address = "127.0.0.1";
    std::uint16_t port = 0;  ///< 0: no TCP
  } console;

  struct drain_section {
    milliseconds timeout{30'000};
  } drain;

  struct log_section {
    std::string level = "info";
    std::string format = "text";  ///< text or json
  } log;

  struct debug_section {
    bool fault_injection = false;
    bool unwatched = false;
  } debug;
};

}  // namespace bitnet::config
