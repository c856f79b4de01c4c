#pragma once

#include "actors/fault_injection.hpp"
#include "engine/generation.hpp"
#include "engine/model_identity.hpp"
#include "engine/weights.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

// What the server, its loader process and its engine processes say to each other, as bytes. All run on one
// machine from one build (the frames' version says so), hence the machine's own byte order. Whoever reads
// trusts nothing: each length is checked against the bytes that are there before memory is taken for it.

namespace bitnet::actors {

enum class frame_kind : std::uint16_t {
  // Server to loader.
  load = 1,  ///< load_command
  spawn,     ///< spawn_command, with the descriptors of the engine's socket and of its shared memory
  corrupt,   ///< corrupt_command: flip a bit in the loader's own copy of the weights
  // Loader to server.
  loaded,     ///< nothing
  refused,    ///< engine::error: the load, the spawn or the corruption failed
  warning,    ///< a sentence for the log
  spawned,    ///< pid (u32), with a pidfd
  corrupted,  ///< name of the region
  exited,     ///< exit_report
  // Server to engine.
  submit,  ///< engine::generation_request
  cancel,  ///< request id (u64)
  probe,   ///< nothing
  fault,   ///< fault_request
  // Engine to server.
  hello,    ///< engine::generation_stats: the engine is built (else `refused`)
  events,   ///< event_batch
  probed,   ///< hash (u64), or `refused`
  faulted,  ///< bool: done; a sentence
};
inline constexpr std::uint16_t last_frame_kind = static_cast<std::uint16_t>(frame_kind::faulted);

struct load_command {
  std::string path;
  engine::file_identity file;
  std::uint64_t threads = 0;
  kernels::head_matrix::format head = kernels::head_matrix::format::int8;
  bool screen_head = false;
  engine::decode_format decode = engine::decode_format::automatic;
  kernels::instruction_set isa = kernels::instruction_set::scalar;
};

struct spawn_command {
  engine::generation_options options;  ///< the pointers in it do not travel
  std::string device;                  ///< "cuda:N": opened by the engine process; empty: the CPU
  bool faults = false;                 ///< the engine obeys `fault`
  std::uint64_t scrub_bytes_per_second = 0;
  bool verify = false;  ///< check all weights first: an engine before this one found them changed
};

struct corrupt_command {
  std::string region;
  std::uint64_t offset = 0;
};

struct exit_report {
  std::uint32_t pid = 0;
  std::int32_t status = 0;  ///< as waitpid gives it
};

/// What some steps did, and where the engine stands after them; stats.last_step_seconds is their mean.
struct event_batch {
  std::uint64_t submissions_seen = 0;  ///< `submit` frames that the engine has read so far
  bool idle = false;                   ///< nothing runs, waits or has an event to deliver
  engine::generation_stats stats;
  std::vector<engine::generation_event> events;
};

class byte_writer {
 public:
  template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void put(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof value);
  }
  void put(std::string_view text) {
    put(static_cast<std::uint32_t>(text.size()));
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    bytes_.insert(bytes_.end(), bytes, bytes + text.size());
  }
  void put(const std::vector<std::uint32_t>& values) {
    put(static_cast<std::uint32_t>(values.size()));
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    bytes_.insert(bytes_.end(), bytes, bytes + values.size() * sizeof values[0]);
  }
  void clear() noexcept { bytes_.clear(); }
  std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// After the first thing that is wrong, everything reads as zero or empty and `ok` stays false.
class byte_reader {
 public:
  explicit byte_reader(std::span<const std::byte> bytes) noexcept : left_(bytes) {}

  template <class T>
  requires std::is_arithmetic_v<T> &&(!std::is_same_v<T, bool>)T get() noexcept {
    T value{};
    if (!take(sizeof value)) return value;
    std::memcpy(&value, taken_, sizeof value);
    return value;
  }
  /// Anything but 0 and 1 is wrong.
  bool get_bool() noexcept;
  /// Values above `last` are wrong.
  template <class Enum>
  Enum get_enum(Enum last) noexcept {
    using raw = std::underlying_type_t<Enum>;
    const auto value = get<raw>();
    if (value > static_cast<raw>(last)) ok_ = false;
    return ok_ ? static_cast<Enum>(value) : Enum{};
  }
  /// A number of elements, each at least `element_bytes` long: wrong where so many cannot be left.
  std::size_t get_count(std::size_t element_bytes) noexcept;
  std::string get_string();
  std::vector<std::uint32_t> get_ids();

  bool ok() const noexcept { return ok_; }
  /// Everything was right, and nothing is left.
  bool complete() const noexcept { return ok_ && left_.empty(); }

 private:
  bool take(std::size_t bytes) noexcept;

  std::span<const std::byte> left_;
  const std::byte* taken_ = nullptr;
  bool ok_ = true;
};

void write(byte_writer& out, const load_command& x);
void write(byte_writer& out, const spawn_command& x);
void write(byte_writer& out, const corrupt_command& x);
void write(byte_writer& out, const exit_report& x);
void write(byte_writer& out, const engine::error& x);
void write(byte_writer& out, const engine::generation_request& x);
void write(byte_writer& out, const engine::generation_stats& x);
void write(byte_writer& out, const event_batch& x);
void write(byte_writer& out, const fault_request& x);

void read(byte_reader& in, load_command& x);
void read(byte_reader& in, spawn_command& x);
void read(byte_reader& in, corrupt_command& x);
void read(byte_reader& in, exit_report& x);
void read(byte_reader& in, engine::error& x);
void read(byte_reader& in, engine::generation_request& x);
void read(byte_reader& in, engine::generation_stats& x);
void read(byte_reader& in, event_batch& x);
void read(byte_reader& in, fault_request& x);

/// A whole payload as a T; false where it is anything else.
template <class T>
bool decode(std::span<const std::byte> payload, T& out) {
  byte_reader in(payload);
  read(in, out);
  return in.complete();
}

}  // namespace bitnet::actors
