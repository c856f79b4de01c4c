#include "engine/gguf_parser.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace bitnet::engine {

static_assert(std::endian::native == std::endian::little, "GGUF files are read without byte swapping");

namespace {

/// Ids of metadata kinds in the file.
enum kind : std::uint32_t {
  kind_uint8 = 0,
  kind_int8,
  kind_uint16,
  kind_int16,
  kind_uint32,
  kind_int32,
  kind_float32,
  kind_bool,
  kind_string,
  kind_array,
  kind_uint64,
  kind_int64,
  kind_float64,
};

constexpr std::uint32_t magic = 0x46554747;  // "GGUF"
constexpr std::uint64_t longest_name = 65535;
constexpr std::uint32_t most_dimensions = 4;
constexpr std::uint64_t largest_alignment = 1U << 20;
constexpr std::size_t buffer_bytes = 1U << 20;
constexpr auto largest_count = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

/// Bytes of one value in an array; 8 for a string, its length field. 0 for what cannot be in an array.
std::uint64_t least_bytes(std::uint32_t element) noexcept {
  switch (element) {
    case kind_uint8:
    case kind_int8:
    case kind_bool:
      return 1;
    case kind_uint16:
    case kind_int16:
      return 2;
    case kind_uint32:
    case kind_int32:
    case kind_float32:
      return 4;
    case kind_string:
    case kind_uint64:
    case kind_int64:
    case kind_float64:
      return 8;
    default:
      return 0;
  }
}

}  // namespace

gguf_parser::gguf_parser(gguf_file& file) : file_(file), source_{file.descriptor_, &file.path_} {}

tl::unexpected<error> gguf_parser::malformed(std::string_view reason) const {
  return fail(error_code::file_malformed,
              fmt::format("{} is not a sound GGUF file: {}; download or convert it again",
                          in_quotes(file_.path_.native()), reason));
}

result<void> gguf_parser::take(std::span<std::byte> out, std::string_view what) {
  if (out.size() > remaining()) {
    return malformed(fmt::format("it ends inside {} (byte {}, {} more needed, {} there)", what, position_,
                                 out.size(), remaining()));
  }
  while (!out.empty()) {
    if (position_ < buffer_start_ || position_ - buffer_start_ >= buffer_.size()) {
      buffer_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(buffer_bytes, remaining())));
      buffer_start_ = position_;
      if (auto done = read_at(source_, position_, buffer_); !done) return done;
    }
    const auto begin = static_cast<std::size_t>(position_ - buffer_start_);
    const std::size_t count = std::min(out.size(), buffer_.size() - begin);
    std::memcpy(out.data(), buffer_.data() + begin, count);
    position_ += count;
    out = out.subspan(count);
  }
  return {};
}

template <class T>
result<T> gguf_parser::take_number(std::string_view what) {
  T value{};
  if (auto done = take(std::as_writable_bytes(std::span(&value, 1)), what); !done)
    return tl::unexpected(std::move(done.error()));
  return value;
}

result<std::string> gguf_parser::take_string(std::uint64_t longest, std::string_view what) {
  const auto length = take_number<std::uint64_t>(what);
  if (!length) return tl::unexpected(length.error());
  if (*length > longest || *length > remaining()) {
    return malformed(
        fmt::format("the length {} of {} is more than {}", *length, what, std::min(longest, remaining())));
  }
  std::string text(static_cast<std::size_t>(*length), '\0');
  if (auto done = take(std::as_writable_bytes(std::span(text)), what); !done)
    return tl::unexpected(std::move(done.error()));
  return text;
}

result<std::uint64_t> gguf_parser::take_count(std::uint64_t least_bytes_each, std::string_view what) {
  const auto count = take_number<std::uint64_t>(what);
  if (!count) return tl::unexpected(count.error());
  if (*count > remaining() / least_bytes_each) {
    return malformed(
        fmt::format("{} is {}, more than the {} bytes that follow can hold", what, *count, remaining()));
  }
  return *count;
}

result<void> gguf_parser::parse() {
  return parse_header()
      .and_then([this] { return parse_metadata(); })
      .and_then([this] { return parse_alignment(); })
      .and_then([this] { return parse_tensor_table(); })
      .and_then([this] { return place_tensors(); })
      .and_then([this] { return check_overlaps(); });
}

result<void> gguf_parser::parse_header() {
  const auto first = take_number<std::uint32_t>("the magic number");
  if (!first) return tl::unexpected(first.error());
  if (*first != magic) return malformed("it does not begin with the letters GGUF");
  const auto version = take_number<std::uint32_t>("the version");
  if (!version) return tl::unexpected(version.error());
  if (*version != 0 && (*version & 0xFFFFU) == 0)
    return malformed("it is big endian; convert it to little endian");
  if (*version != 2 && *version != 3)
    return malformed(fmt::format("its version is {}; versions 2 and 3 are read", *version));
  // A tensor needs at least a name length, a dimension count, one dimension, a type and an offset.
  const auto tensors = take_count(32, "the number of tensors");
  if (!tensors) return tl::unexpected(tensors.error());
  // A key needs at least a length, a kind and one byte of value.
  const auto values = take_count(13, "the number of metadata keys");
  if (!values) return tl::unexpected(values.error());
  tensor_count_ = *tensors;
  value_count_ = *values;
  return {};
}

result<void> gguf_parser::parse_metadata() {
  for (std::uint64_t i = 0; i < value_count_; ++i) {
    auto key = take_string(longest_name, fmt::format("metadata key number {}", i));
    if (!key) return tl::unexpected(std::move(key.error()));
    auto value = parse_value(*key);
    if (!value) return tl::unexpected(std::move(value.error()));
    const auto [place, added] = file_.values_.try_emplace(std::move(*key), std::move(*value));
    if (!added) return malformed(fmt::format("the key {} occurs twice", in_quotes(place->first)));
  }
  return {};
}

result<gguf_value> gguf_parser::parse_value(std::string_view key) {
  const auto kind = take_number<std::uint32_t>(fmt::format("the kind of key {}", in_quotes(key)));
  if (!kind) return tl::unexpected(kind.error());
  if (*kind == kind_array) return parse_array(key);
  return parse_scalar(*kind, key);
}

result<gguf_value> gguf_parser::parse_scalar(std::uint32_t kind, std::string_view key) {
  const std::string what = fmt::format("the value of key {}", in_quotes(key));
  const auto number = [&]<class T>(T) -> result<gguf_value> {
    const auto value = take_number<T>(what);
    if (!value) return tl::unexpected(value.error());
    if constexpr (std::is_floating_point_v<T>)
      return gguf_value(static_cast<double>(*value));
    else if constexpr (std::is_signed_v<T>)
      return gguf_value(static_cast<std::int64_t>(*value));
    else
      return gguf_value(static_cast<std::uint64_t>(*value));
  };
  switch (kind) {
    case kind_uint8:
      return number(std::uint8_t{});
    case kind_int8:
      return number(std::int8_t{});
    case kind_uint16:
      return number(std::uint16_t{});
    case kind_int16:
      return number(std::int16_t{});
    case kind_uint32:
      return number(std::uint32_t{});
    case kind_int32:
      return number(std::int32_t{});
    case kind_float32:
      return number(float{});
    case kind_uint64:
      return number(std::uint64_t{});
    case kind_int64:
      return number(std::int64_t{});
    case kind_float64:
      return number(double{});
    case kind_bool: {
      const auto value = take_number<std::uint8_t>(what);
      if (!value) return tl::unexpected(value.error());
      if (*value > 1) return malformed(fmt::format("{} is a boolean of {}", what, *value));
      return gguf_value(*value == 1);
    }
    case kind_string: {
      auto text = take_string(remaining(), what);
      if (!text) return tl::unexpected(std::move(text.error()));
      return gguf_value(std::move(*text));
    }
    default:
      return malformed(fmt::format("key {} is of the unknown kind {}", in_quotes(key), kind));
  }
}

result<gguf_value> gguf_parser::parse_array(std::string_view key) {
  const std::string what = fmt::format("the array {}", in_quotes(key));
  const auto element = take_number<std::uint32_t>(what);
  if (!element) return tl::unexpected(element.error());
  const std::uint64_t least = least_bytes(*element);
  if (least == 0) {
    return malformed(fmt::format("{} holds {}, which is not supported", what,
                                 *element == kind_array
                                     ? std::string("arrays")
                                     : fmt::format("values of the unknown kind {}", *element)));
  }
  const auto count = take_count(least, fmt::format("the length of {}", what));
  if (!count) return tl::unexpected(count.error());
  const auto length = static_cast<std::size_t>(*count);

  if (*element == kind_string) {
    std::vector<std::string> texts;
    texts.reserve(length);
    for (std::size_t i = 0; i < length; ++i) {
      auto text = take_string(remaining(), what);
      if (!text) return tl::unexpected(std::move(text.error()));
      texts.push_back(std::move(*text));
    }
    return gguf_value(std::move(texts));
  }
  switch (*element) {
    case kind_uint8:
      return take_numbers<std::uint8_t, std::int64_t>(length, what);
    case kind_int8:
      return take_numbers<std::int8_t, std::int64_t>(length, what);
    case kind_uint16:
      return take_numbers<std::uint16_t, std::int64_t>(length, what);
    case kind_int16:
      return take_numbers<std::int16_t, std::int64_t>(length, what);
    case kind_uint32:
      return take_numbers<std::uint32_t, std::int64_t>(length, what);
    case kind_int32:
      return take_numbers<std::int32_t, std::int64_t>(length, what);
    case kind_uint64:
      return take_numbers<std::uint64_t, std::int64_t>(length, what);
    case kind_int64:
      return take_numbers<std::int64_t, std::int64_t>(length, what);
    case kind_float32:
      return take_numbers<float, double>(length, what);
    case kind_float64:
      return take_numbers<double, double>(length, what);
    default:
      return take_numbers<bool, std::int64_t>(length, what);
  }
}

template <class Stored, class Kept>
result<gguf_value> gguf_parser::take_numbers(std::size_t count, std::string_view what) {
  // A byte of a boolean may hold anything, which bool may not.
  using raw = std::conditional_t<std::is_same_v<Stored, bool>, std::uint8_t, Stored>;
  std::vector<Kept> numbers;
  numbers.reserve(count);
  std::array<raw, 1024> slice;
  while (numbers.size() < count) {
    const auto part = std::span(slice).first(std::min(slice.size(), count - numbers.size()));
    if (auto done = take(std::as_writable_bytes(part), what); !done)
      return tl::unexpected(std::move(done.error()));
    for (const raw value : part) {
      if constexpr (std::is_same_v<Stored, bool>) {
        if (value > 1) return malformed(fmt::format("{} holds a boolean of {}", what, value));
      } else if constexpr (std::is_same_v<Stored, std::uint64_t>) {
        if (value > largest_count)
          return malformed(fmt::format("{} holds {}, which is too large", what, value));
      }
      numbers.push_back(static_cast<Kept>(value));
    }
  }
  return gguf_value(std::move(numbers));
}

result<void> gguf_parser::parse_alignment() {
  if (file_.find("general.alignment") == nullptr) return {};
  const auto alignment = file_.unsigned_integer("general.alignment");
  if (!alignment || !std::has_single_bit(*alignment) || *alignment > largest_alignment) {
    return malformed(fmt::format("general.alignment is {}, not a power of two up to {}",
                                 alignment ? std::to_string(*alignment) : "not an integer",
                                 largest_alignment));
  }
  alignment_ = *alignment;
  return {};
}

result<void> gguf_parser::parse_tensor_table() {
  // Metadata came in between: what the header promised must still fit.
  if (tensor_count_ > remaining() / 32) {
    return malformed(fmt::format("the number of tensors is {}, more than the {} bytes that follow can hold",
                                 tensor_count_, remaining()));
  }
  file_.tensors_.reserve(static_cast<std::size_t>(tensor_count_));
  for (std::uint64_t i = 0; i < tensor_count_; ++i) {
    auto tensor = parse_tensor();
    if (!tensor) return tl::unexpected(std::move(tensor.error()));
    file_.tensors_.push_back(std::move(*tensor));
  }
  for (std::size_t i = 0; i < file_.tensors_.size(); ++i) {
    const std::string& name = file_.tensors_[i].name;
    if (!file_.tensor_index_.emplace(name, i).second)
      return malformed(fmt::format("the tensor {} occurs twice", in_quotes(name)));
  }
  return {};
}

result<gguf_tensor> gguf_parser::parse_tensor() {
  gguf_tensor tensor;
  auto name = take_string(longest_name, fmt::format("the name of tensor number {}", file_.tensors_.size()));
  if (!name) return tl::unexpected(std::move(name.error()));
  tensor.name = std::move(*name);
  const std::string what = fmt::format("the description of tensor {}", in_quotes(tensor.name));
  const auto dimensions = take_number<std::uint32_t>(what);
  if (!dimensions) return tl::unexpected(dimensions.error());
  if (*dimensions == 0 || *dimensions > most_dimensions) {
    return malformed(fmt::format("tensor {} has {} dimensions; 1 to {} are possible", in_quotes(tensor.name),
                                 *dimensions, most_dimensions));
  }
  std::uint64_t elements = 1;
  for (std::uint32_t d = 0; d < *dimensions; ++d) {
    const auto extent = take_number<std::uint64_t>(what);
    if (!extent) return tl::unexpected(extent.error());
    if (*extent == 0 || *extent > largest_count / elements) {
      return malformed(fmt::format("dimension {} of tensor {} is {}, which cannot be", d,
                                   in_quotes(tensor.name), *extent));
    }
    elements *= *extent;
    tensor.shape.push_back(*extent);
  }
  const auto type = take_number<std::uint32_t>(what);
  if (!type) return tl::unexpected(type.error());
  tensor.type = *type;
  const auto offset = take_number<std::uint64_t>(what);
  if (!offset) return tl::unexpected(offset.error());
  if (*offset % alignment_ != 0) {
    return malformed(fmt::format("the offset {} of tensor {} is not a multiple of the alignment {}", *offset,
                                 in_quotes(tensor.name), alignment_));
  }
  tensor.offset = *offset;
  return tensor;
}

result<void> gguf_parser::place_tensors() {
  // The header ends inside the file and the alignment is small, so this cannot overflow.
  const std::uint64_t data_start = (position_ + alignment_ - 1) / alignment_ * alignment_;
  for (gguf_tensor& tensor : file_.tensors_) {
    const auto outside = [&](std::string_view extent) {
      return malformed(fmt::format(
          "tensor {} ({}) of {} at offset {} lies beyond the end of the file, which has {} bytes",
          in_quotes(tensor.name), tensor_type_name(tensor.type), extent, tensor.offset, file_.size_bytes()));
    };
    const auto type = known_tensor_type(tensor.type);
    std::uint64_t size = 0;
    if (type) {
      const tensor_layout layout = layout_of(*type);
      const std::uint64_t run = layout.rows_are_whole ? tensor.cols() : tensor.element_count();
      if (run % layout.elements != 0) {
        return malformed(fmt::format("{} of tensor {} is {}, but {} stores groups of {}",
                                     layout.rows_are_whole ? "the row length" : "the number of weights",
                                     in_quotes(tensor.name), run, tensor_type_name(tensor.type),
                                     layout.elements));
      }
      const std::uint64_t groups = tensor.element_count() / layout.elements;
      if (groups > file_.size_bytes() / layout.bytes)
        return outside(fmt::format("{} weights", tensor.element_count()));
      size = layout.size_of(tensor.element_count());
    }
    if (data_start > file_.size_bytes() || tensor.offset > file_.size_bytes() - data_start ||
        size > file_.size_bytes() - data_start - tensor.offset) {
      return outside(fmt::format("{} bytes", size));
    }
    tensor.offset += data_start;
    tensor.size_bytes = size;
  }
  return {};
}

result<void> gguf_parser::check_overlaps() const {
  std::vector<const gguf_tensor*> in_order;
  in_order.reserve(file_.tensors_.size());
  for (const gguf_tensor& tensor : file_.tensors_) in_order.push_back(&tensor);
  std::sort(in_order.begin(), in_order.end(),
            [](const gguf_tensor* a, const gguf_tensor* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < in_order.size(); ++i) {
    const gguf_tensor& before = *in_order[i - 1];
    if (before.offset + before.size_bytes > in_order[i]->offset) {
      return malformed(
          fmt::format("the tensors {} and {} overlap", in_quotes(before.name), in_quotes(in_order[i]->name)));
    }
  }
  return {};
}

}  // namespace bitnet::engine
