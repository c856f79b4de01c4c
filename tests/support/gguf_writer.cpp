#include "tests/support/gguf_writer.hpp"

#include <algorithm>
#include <fstream>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace bitnet::tests {

namespace {

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void append_string(std::string& out, std::string_view text) {
  append(out, static_cast<std::uint64_t>(text.size()));
  out += text;
}

template <class T>
std::string bytes_of(T value) {
  std::string out;
  append(out, value);
  return out;
}

template <class T>
std::string array_bytes(std::uint32_t kind, std::span<const T> values) {
  std::string out;
  append(out, kind);
  append(out, static_cast<std::uint64_t>(values.size()));
  for (const T& value : values) {
    if constexpr (std::is_same_v<T, std::string>)
      append_string(out, value);
    else
      append(out, value);
  }
  return out;
}

}  // namespace

void gguf_writer::add_raw(std::string_view key, std::uint32_t kind, std::string_view bytes) {
  values_.push_back({std::string(key), kind, std::string(bytes)});
}

void gguf_writer::add_u32(std::string_view key, std::uint32_t value) {
  add_raw(key, 4, bytes_of(value));
}
void gguf_writer::add_u64(std::string_view key, std::uint64_t value) {
  add_raw(key, 10, bytes_of(value));
}
void gguf_writer::add_f32(std::string_view key, float value) {
  add_raw(key, 6, bytes_of(value));
}
void gguf_writer::add_bool(std::string_view key, bool value) {
  add_raw(key, 7, bytes_of(static_cast<std::uint8_t>(value ? 1 : 0)));
}

void gguf_writer::add_string(std::string_view key, std::string_view value) {
  std::string bytes;
  append_string(bytes, value);
  add_raw(key, 8, bytes);
}

void gguf_writer::add_strings(std::string_view key, std::span<const std::string> values) {
  add_raw(key, 9, array_bytes(8, values));
}
void gguf_writer::add_i32s(std::string_view key, std::span<const std::int32_t> values) {
  add_raw(key, 9, array_bytes(5, values));
}
void gguf_writer::add_f32s(std::string_view key, std::span<const float> values) {
  add_raw(key, 9, array_bytes(6, values));
}

void gguf_writer::remove(std::string_view key) {
  std::erase_if(values_, [key](const entry& v) { return v.key == key; });
}

void gguf_writer::add_tensor(std::string_view name, std::uint32_t type, std::vector<std::uint64_t> shape,
                             std::uint64_t size_bytes, producer data) {
  std::uint64_t offset = 0;
  if (!tensors_.empty()) {
    const tensor& last = tensors_.back();
    offset = (last.offset + last.size_bytes + alignment - 1) / alignment * alignment;
  }
  tensors_.push_back({std::string(name), type, std::move(shape), size_bytes, std::move(data), offset});
}

void gguf_writer::add_tensor(std::string_view name, std::uint32_t type, std::vector<std::uint64_t> shape,
                             std::string bytes) {
  const std::uint64_t size = bytes.size();
  add_tensor(name, type, std::move(shape), size,
             [bytes = std::move(bytes)](const sink& out) { out(std::as_bytes(std::span(bytes))); });
}

gguf_writer::tensor* gguf_writer::find(std::string_view name) {
  const auto found =
      std::find_if(tensors_.begin(), tensors_.end(), [&](const tensor& t) { return t.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

void gguf_writer::remove_tensor(std::string_view name) {
  std::erase_if(tensors_, [name](const tensor& t) { return t.name == name; });
}

void gguf_writer::write(std::ostream& out) const {
  std::string head = "GGUF";
  append(head, version);
  append(head, static_cast<std::uint64_t>(tensors_.size()));
  append(head, static_cast<std::uint64_t>(values_.size()));
  for (const entry& v : values_) {
    append_string(head, v.key);
    append(head, v.kind);
    head += v.bytes;
  }
  for (const tensor& t : tensors_) {
    append_string(head, t.name);
    append(head, static_cast<std::uint32_t>(t.shape.size()));
    for (const std::uint64_t extent : t.shape) append(head, extent);
    append(head, t.type);
    append(head, t.offset);
  }
  head.resize((head.size() + alignment - 1) / alignment * alignment);
  out.write(head.data(), static_cast<std::streamsize>(head.size()));

  std::uint64_t position = 0;
  for (const tensor& t : tensors_) {
    for (; position < t.offset; ++position) out.put('\0');
    t.data([&](std::span<const std::byte> bytes) {
      out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      position += bytes.size();
    });
  }
}

void gguf_writer::write(const std::filesystem::path& path) const {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  write(out);
  out.close();
  if (!out) throw std::runtime_error("cannot write " + path.string());
}

std::string gguf_writer::bytes() const {
  std::ostringstream out;
  write(out);
  return std::move(out).str();
}

}  // namespace bitnet::tests
