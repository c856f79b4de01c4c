#pragma once

#include "engine/error.hpp"

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

/// Tensor types that we read, with their ids in the file. Others are refused by name.
enum class tensor_type : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q8_0 = 8,
  q6_k = 14,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  i2_s = 36,
};

/// Name of any type id, known to us or not ("TL1", "type 99").
std::string tensor_type_name(std::uint32_t id);

/// A metadata value. Arrays keep one vector a kind, so that a 280,147-entry list costs one allocation a
/// string.
using gguf_value = std::variant<std::uint64_t, std::int64_t, double, bool, std::string,
                                std::vector<std::string>, std::vector<std::int64_t>, std::vector<double>>;

struct gguf_tensor {
  std::string name;
  std::uint32_t type = 0;            ///< raw id, see tensor_type
  std::vector<std::uint64_t> shape;  ///< innermost first, as in the file: {cols, rows}
  std::span<const std::byte> data;   ///< inside the mapping, extent checked

  std::uint64_t element_count() const noexcept;
  std::uint64_t cols() const noexcept { return shape.empty() ? 0 : shape[0]; }
  std::uint64_t rows() const noexcept { return shape.size() < 2 ? 1 : shape[1]; }
};

/// A GGUF v2 or v3 file, mapped read-only. Every count, length and offset was checked against the file's size
/// before use; a hostile file gives an error, never a crash or an allocation larger than the file.
/// Specification: ggml's docs/gguf.md.
class gguf_file {
 public:
  static result<std::shared_ptr<const gguf_file>> open(const std::filesystem::path& path);
  ~gguf_file();
  gguf_file(const gguf_file&) = delete;
  gguf_file& operator=(const gguf_file&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::uint64_t size_bytes() const noexcept { return size_; }

  /// nullptr where absent.
  const gguf_value* find(std::string_view key) const;
  const gguf_tensor* find_tensor(std::string_view name) const;
  std::span<const gguf_tensor> tensors() const noexcept { return tensors_; }

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
  gguf_file() = default;

  std::filesystem::path path_;
  std::byte* mapping_ = nullptr;
  std::uint64_t size_ = 0;
  std::unordered_map<std::string, gguf_value> values_;
  std::vector<gguf_tensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> tensor_index_;
};

}  // namespace bitnet::engine
