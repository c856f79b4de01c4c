#pragma once

#include "engine/error.hpp"
#include "engine/model_identity.hpp"
#include "engine/tensor_types.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace bitnet::engine {

/// A metadata value. Arrays keep one vector a kind, so that a 280,147-entry list costs one allocation a
/// string. Booleans inside an array become 0 and 1.
using gguf_value = std::variant<std::uint64_t, std::int64_t, double, bool, std::string,
                                std::vector<std::string>, std::vector<std::int64_t>, std::vector<double>>;

struct gguf_tensor {
  std::string name;
  std::uint32_t type = 0;  ///< raw id, see tensor_type
  std::vector<std::uint64_t>
      shape;                     ///< innermost first, as in the file: {cols, rows}; 1 to 4 entries, none 0
  std::uint64_t offset = 0;      ///< of its data, from the start of the file
  std::uint64_t size_bytes = 0;  ///< lies inside the file; 0 for types that we do not read

  std::uint64_t element_count() const noexcept;  ///< was checked to fit 63 bits
  std::uint64_t cols() const noexcept { return shape.empty() ? 0 : shape[0]; }
  std::uint64_t rows() const noexcept { return shape.size() < 2 ? 1 : shape[1]; }
};

/// A GGUF v2 or v3 file (little endian). Every count, length and offset was checked against the file's size
/// before use; a hostile file gives an error, never a crash, nor more memory than a small multiple of its
/// size.
///
/// The file is read, not mapped: a file that is truncated while it is in use gives an error here, where a
/// mapping would end the process with SIGBUS. It stays open, so an unlinked or renamed file stays readable.
/// Specification: ggml's docs/gguf.md.
class gguf_file {
 public:
  static result<std::shared_ptr<const gguf_file>> open(const std::filesystem::path& path);
  ~gguf_file();
  gguf_file(const gguf_file&) = delete;
  gguf_file& operator=(const gguf_file&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::uint64_t size_bytes() const noexcept { return identity_.size_bytes; }
  /// Of the open file, taken when it was opened.
  const file_identity& identity() const noexcept { return identity_; }

  /// nullptr where absent.
  const gguf_value* find(std::string_view key) const;
  const gguf_tensor* find_tensor(std::string_view name) const;
  std::span<const gguf_tensor> tensors() const noexcept { return tensors_; }

  /// Fills `out` with the tensor's bytes from `offset` on. Fails where that reaches beyond the tensor, or
  /// where the file has become shorter since. Thread-safe.
  result<void> read(const gguf_tensor& tensor, std::uint64_t offset, std::span<std::byte> out) const;

  /// Typed access; nothing where the key is absent or of another kind. Integers convert between kinds if they
  /// fit.
  std::optional<std::string_view> string(std::string_view key) const;
  std::optional<std::uint64_t> unsigned_integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  const std::vector<std::string>* strings(std::string_view key) const;
  const std::vector<std::int64_t>* integers(std::string_view key) const;
  const std::vector<double>* numbers(std::string_view key) const;

 private:
  friend class gguf_parser;
  /// Lets find() take a string_view without building a string.
  struct string_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>{}(text);
    }
  };

  gguf_file() = default;

  std::filesystem::path path_;
  int descriptor_ = -1;
  file_identity identity_;
  std::unordered_map<std::string, gguf_value, string_hash, std::equal_to<>> values_;
  std::vector<gguf_tensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> tensor_index_;
};

/// `text` in quotes for an error message: control characters and invalid bytes escaped, cut after 80 bytes.
std::string in_quotes(std::string_view text);

}  // namespace bitnet::engine
