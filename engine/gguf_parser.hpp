#pragma once

#include "engine/error.hpp"
#include "engine/gguf.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::engine {

/// An open file to read from, and its name for error messages.
struct gguf_source {
  int descriptor = -1;
  const std::filesystem::path* path = nullptr;
};

/// Fills all of `out`; a file that ends before is an error.
result<void> read_at(const gguf_source& source, std::uint64_t position, std::span<std::byte> out);

/// Reads a file's header, metadata and tensor table into `file`. One use.
class gguf_parser {
 public:
  explicit gguf_parser(gguf_file& file);

  result<void> parse();

 private:
  result<void> parse_header();
  result<void> parse_metadata();
  result<gguf_value> parse_value(std::string_view key);
  result<gguf_value> parse_scalar(std::uint32_t kind, std::string_view key);
  result<gguf_value> parse_array(std::string_view key);
  result<void> parse_alignment();
  result<void> parse_tensor_table();
  result<gguf_tensor> parse_tensor();
  result<void> place_tensors();
  result<void> check_overlaps() const;

  /// Copies the next bytes of the file to `out`; `what` names them in the error.
  result<void> take(std::span<std::byte> out, std::string_view what);
  template <class T>
  result<T> take_number(std::string_view what);
  template <class Stored, class Kept>
  result<gguf_value> take_numbers(std::size_t count, std::string_view what);
  result<std::string> take_string(std::uint64_t longest, std::string_view what);
  result<std::uint64_t> take_count(std::uint64_t least_bytes_each, std::string_view what);

  std::uint64_t remaining() const noexcept { return file_.size_bytes() - position_; }
  tl::unexpected<error> malformed(std::string_view reason) const;

  gguf_file& file_;
  gguf_source source_;
  std::uint64_t position_ = 0;  ///< of the next byte to take; at most size_bytes()
  std::vector<std::byte> buffer_;
  std::uint64_t buffer_start_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t value_count_ = 0;
  std::uint64_t alignment_ = 32;
};

}  // namespace bitnet::engine
