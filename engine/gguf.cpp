#include "engine/gguf.hpp"

#include "engine/gguf_parser.hpp"

#include <fmt/format.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace bitnet::engine {

std::uint64_t gguf_tensor::element_count() const noexcept {
  std::uint64_t count = 1;
  for (const std::uint64_t extent : shape) count *= extent;
  return count;
}

result<std::shared_ptr<const gguf_file>> gguf_file::open(const std::filesystem::path& path) {
  const auto refuse = [&path](std::string_view reason) {
    return fail(error_code::file_not_found,
                fmt::format("cannot open model file {}: {}; check the path and its permissions",
                            in_quotes(path.native()), reason));
  };
  // Not to wait for a writer, should the path name a FIFO.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return refuse(::strerror(errno));
  std::shared_ptr<gguf_file> file(new gguf_file);
  file->descriptor_ = descriptor;
  file->path_ = path;
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) return refuse(::strerror(errno));
  if (!S_ISREG(status.st_mode)) return refuse("it is not a regular file");
  file->identity_ = identity_from(status);

  gguf_parser parser(*file);
  if (auto parsed = parser.parse(); !parsed) return tl::unexpected(std::move(parsed.error()));
  return file;
}

gguf_file::~gguf_file() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

result<void> read_at(const gguf_source& source, std::uint64_t position, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got = ::pread(source.descriptor, out.data(), out.size(), static_cast<off_t>(position));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return fail(error_code::file_malformed,
                  fmt::format("cannot read {} at byte {}: {}", in_quotes(source.path->native()), position,
                              ::strerror(errno)));
    }
    if (got == 0) {
      return fail(error_code::file_malformed,
                  fmt::format("{} ends at byte {} though it was longer when it was opened; do not write to a "
                              "model file in use",
                              in_quotes(source.path->native()), position));
    }
    position += static_cast<std::uint64_t>(got);
    out = out.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

result<void> gguf_file::read(const gguf_tensor& tensor, std::uint64_t offset,
                             std::span<std::byte> out) const {
  if (offset > tensor.size_bytes || out.size() > tensor.size_bytes - offset) {
    return fail(error_code::internal,
                fmt::format("bytes {} to {} of tensor {} were asked for, but it has {}", offset,
                            offset + out.size(), in_quotes(tensor.name), tensor.size_bytes));
  }
  return read_at(gguf_source{descriptor_, &path_}, tensor.offset + offset, out);
}

const gguf_value* gguf_file::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

const gguf_tensor* gguf_file::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

std::optional<std::string_view> gguf_file::string(std::string_view key) const {
  const gguf_value* value = find(key);
  const auto* text = value != nullptr ? std::get_if<std::string>(value) : nullptr;
  if (text == nullptr) return std::nullopt;
  return *text;
}

std::optional<std::uint64_t> gguf_file::unsigned_integer(std::string_view key) const {
  const gguf_value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<std::uint64_t>(value)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(value); number != nullptr && *number >= 0)
    return static_cast<std::uint64_t>(*number);
  return std::nullopt;
}

std::optional<double> gguf_file::number(std::string_view key) const {
  const gguf_value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<std::uint64_t>(value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<std::int64_t>(value)) return static_cast<double>(*number);
  return std::nullopt;
}

std::optional<bool> gguf_file::boolean(std::string_view key) const {
  const gguf_value* value = find(key);
  const bool* flag = value != nullptr ? std::get_if<bool>(value) : nullptr;
  if (flag == nullptr) return std::nullopt;
  return *flag;
}

const std::vector<std::string>* gguf_file::strings(std::string_view key) const {
  const gguf_value* value = find(key);
  return value != nullptr ? std::get_if<std::vector<std::string>>(value) : nullptr;
}

const std::vector<std::int64_t>* gguf_file::integers(std::string_view key) const {
  const gguf_value* value = find(key);
  return value != nullptr ? std::get_if<std::vector<std::int64_t>>(value) : nullptr;
}

const std::vector<double>* gguf_file::numbers(std::string_view key) const {
  const gguf_value* value = find(key);
  return value != nullptr ? std::get_if<std::vector<double>>(value) : nullptr;
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t longest = 80;
  std::string out = "\"";
  for (std::size_t i = 0; i < std::min(text.size(), longest); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += text[i];
    } else if (c >= 0x20 && c < 0x7F) {
      out += text[i];
    } else {
      out += fmt::format("\\x{:02x}", c);
    }
  }
  out += text.size() > longest ? "...\"" : "\"";
  return out;
}

}  // namespace bitnet::engine
