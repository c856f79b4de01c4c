#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::tests {

/// Writes GGUF v3 files, written from the format's specification and apart from the reader. Makes sound files
/// and, through `add_raw` and the public counts, unsound ones. Throws std::runtime_error where a file cannot
/// be written.
class gguf_writer {
 public:
  using sink = std::function<void(std::span<const std::byte>)>;
  /// Gives the bytes of a tensor's data in order.
  using producer = std::function<void(const sink&)>;

  void add_u32(std::string_view key, std::uint32_t value);
  void add_u64(std::string_view key, std::uint64_t value);
  void add_f32(std::string_view key, float value);
  void add_bool(std::string_view key, bool value);
  void add_string(std::string_view key, std::string_view value);
  void add_strings(std::string_view key, std::span<const std::string> values);
  void add_i32s(std::string_view key, std::span<const std::int32_t> values);
  void add_f32s(std::string_view key, std::span<const float> values);
  /// A value of any kind id with any bytes.
  void add_raw(std::string_view key, std::uint32_t kind, std::string_view bytes);
  /// Removes all keys of that name.
  void remove(std::string_view key);

  struct tensor {
    std::string name;
    std::uint32_t type = 0;
    std::vector<std::uint64_t> shape;  ///< innermost first
    std::uint64_t size_bytes = 0;
    producer data;
    std::uint64_t offset = 0;  ///< set by add_tensor; changing it makes an unsound file
  };
  void add_tensor(std::string_view name, std::uint32_t type, std::vector<std::uint64_t> shape,
                  std::uint64_t size_bytes, producer data);
  void add_tensor(std::string_view name, std::uint32_t type, std::vector<std::uint64_t> shape,
                  std::string bytes);
  std::vector<tensor>& tensors() noexcept { return tensors_; }
  /// nullptr where absent.
  tensor* find(std::string_view name);
  void remove_tensor(std::string_view name);

  std::uint32_t version = 3;
  std::uint64_t alignment = 32;  ///< of the offsets; general.alignment is not added by itself

  void write(const std::filesystem::path& path) const;
  std::string bytes() const;

 private:
  struct entry {
    std::string key;
    std::uint32_t kind;
    std::string bytes;
  };
  void write(std::ostream& out) const;

  std::vector<entry> values_;
  std::vector<tensor> tensors_;
};

}  // namespace bitnet::tests
