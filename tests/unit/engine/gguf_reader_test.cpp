#include "engine/gguf.hpp"
#include "tests/support/gguf_writer.hpp"
#include "tests/support/memory_file.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <limits>

using namespace bitnet::engine;
using bitnet::tests::gguf_writer;
using bitnet::tests::memory_file;

namespace {

template <class T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::shared_ptr<const gguf_file> opened(const std::string& bytes) {
  const memory_file file(bytes);
  auto result = gguf_file::open(file.path());
  BOOST_REQUIRE_MESSAGE(result.has_value(), (result ? "" : result.error().message));
  return *result;
}

std::shared_ptr<const gguf_file> opened(const gguf_writer& writer) {
  return opened(writer.bytes());
}

/// The file must be refused, as malformed, with a message that contains `part` and the file's name.
void check_refused(const std::string& bytes, std::string_view part) {
  const memory_file file(bytes);
  const auto result = gguf_file::open(file.path());
  BOOST_REQUIRE_MESSAGE(!result, "was not refused: expected " << part);
  BOOST_TEST((result.error().code == error_code::file_malformed));
  BOOST_TEST_CONTEXT("message: " << result.error().message) {
    BOOST_TEST((result.error().message.find(part) != std::string::npos), "lacks " << part);
    BOOST_TEST((result.error().message.find(file.path().string()) != std::string::npos));
  }
}

void check_refused(const gguf_writer& writer, std::string_view part) {
  check_refused(writer.bytes(), part);
}

gguf_writer one_tensor(std::uint32_t type, std::vector<std::uint64_t> shape, std::string bytes) {
  gguf_writer writer;
  writer.add_tensor("some.weight", type, std::move(shape), std::move(bytes));
  return writer;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(gguf_reader)

BOOST_AUTO_TEST_CASE(reads_every_kind_of_scalar) {
  gguf_writer writer;
  writer.add_raw("u8", 0, raw<std::uint8_t>(200));
  writer.add_raw("i8", 1, raw<std::int8_t>(-3));
  writer.add_raw("u16", 2, raw<std::uint16_t>(60000));
  writer.add_raw("i16", 3, raw<std::int16_t>(-300));
  writer.add_raw("u32", 4, raw<std::uint32_t>(4000000000U));
  writer.add_raw("i32", 5, raw<std::int32_t>(-70000));
  writer.add_raw("f32", 6, raw(0.5F));
  writer.add_bool("yes", true);
  writer.add_string("text", "caf\xC3\xA9");
  writer.add_raw("u64", 10, raw<std::uint64_t>(1ULL << 63));
  writer.add_raw("i64", 11, raw(std::numeric_limits<std::int64_t>::min()));
  writer.add_raw("f64", 12, raw(1e300));
  const auto file = opened(writer);
  BOOST_TEST(file->unsigned_integer("u8").value() == 200U);
  BOOST_TEST(file->number("i8").value() == -3.0);
  BOOST_TEST(file->unsigned_integer("u16").value() == 60000U);
  BOOST_TEST(file->number("i16").value() == -300.0);
  BOOST_TEST(file->unsigned_integer("u32").value() == 4000000000U);
  BOOST_TEST(std::get<std::int64_t>(*file->find("i32")) == -70000);
  BOOST_TEST(file->number("f32").value() == 0.5);
  BOOST_TEST(file->boolean("yes").value());
  BOOST_TEST(file->string("text").value() == "caf\xC3\xA9");
  BOOST_TEST(file->unsigned_integer("u64").value() == (1ULL << 63));
  BOOST_TEST(std::get<std::int64_t>(*file->find("i64")) == std::numeric_limits<std::int64_t>::min());
  BOOST_TEST(file->number("f64").value() == 1e300);
}

BOOST_AUTO_TEST_CASE(typed_access_refuses_another_kind) {
  gguf_writer writer;
  writer.add_raw("negative", 5, raw<std::int32_t>(-1));
  writer.add_raw("positive", 5, raw<std::int32_t>(7));
  writer.add_string("text", "7");
  const auto file = opened(writer);
  BOOST_TEST(!file->unsigned_integer("negative").has_value());
  BOOST_TEST(file->unsigned_integer("positive").value() == 7U);
  BOOST_TEST(!file->unsigned_integer("text").has_value());
  BOOST_TEST(!file->number("text").has_value());
  BOOST_TEST(!file->boolean("positive").has_value());
  BOOST_TEST(!file->string("positive").has_value());
  BOOST_TEST((file->strings("text") == nullptr));
  BOOST_TEST((file->find("absent") == nullptr));
}

BOOST_AUTO_TEST_CASE(reads_arrays_longer_than_a_slice) {
  std::vector<std::string> texts;
  std::vector<std::int32_t> integers;
  std::vector<float> reals;
  for (int i = 0; i < 5000; ++i) {
    texts.push_back(std::string(static_cast<std::size_t>(i % 50), 'x') + std::to_string(i));
    integers.push_back(i - 2500);
    reals.push_back(0.25F * static_cast<float>(i));
  }
  gguf_writer writer;
  writer.add_strings("texts", texts);
  writer.add_i32s("integers", integers);
  writer.add_f32s("reals", reals);
  writer.add_raw("booleans", 9, raw<std::uint32_t>(7) + raw<std::uint64_t>(3) + std::string("\1\0\1", 3));
  writer.add_strings("none", {});
  const auto file = opened(writer);
  BOOST_TEST(*file->strings("texts") == texts);
  BOOST_TEST(file->strings("none")->empty());
  const std::vector<std::int64_t> wide(integers.begin(), integers.end());
  BOOST_TEST(*file->integers("integers") == wide);
  const std::vector<double> doubles(reals.begin(), reals.end());
  BOOST_TEST(*file->numbers("reals") == doubles);
  BOOST_TEST((*file->integers("booleans") == std::vector<std::int64_t>{1, 0, 1}));
}

BOOST_AUTO_TEST_CASE(finds_and_reads_tensors) {
  std::string data(4 * 6, '\0');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i);
  gguf_writer writer;
  writer.add_string("general.name", "x");
  writer.add_tensor("first", 0, {3, 2}, data);
  writer.add_tensor("second", 1, {5}, std::string(10, 'b'));
  for (const std::uint32_t version : {2U, 3U}) {
    writer.version = version;
    const auto file = opened(writer);
    BOOST_TEST(file->tensors().size() == 2U);
    BOOST_TEST((file->find_tensor("third") == nullptr));
    const gguf_tensor& first = *file->find_tensor("first");
    BOOST_TEST(first.cols() == 3U);
    BOOST_TEST(first.rows() == 2U);
    BOOST_TEST(first.element_count() == 6U);
    BOOST_TEST(first.size_bytes == 24U);
    BOOST_TEST(first.offset % 32 == 0U);
    std::vector<std::byte> bytes(20);
    BOOST_REQUIRE(file->read(first, 4, bytes).has_value());
    BOOST_TEST(std::memcmp(bytes.data(), data.data() + 4, 20) == 0);
    BOOST_TEST(file->find_tensor("second")->rows() == 1U);
  }
}

BOOST_AUTO_TEST_CASE(refuses_to_read_beyond_a_tensor) {
  const auto file = opened(one_tensor(0, {4}, std::string(16, 'a')));
  std::vector<std::byte> bytes(8);
  BOOST_TEST(file->read(file->tensors()[0], 8, bytes).has_value());
  for (const std::uint64_t offset : {std::uint64_t{9}, std::uint64_t{17}, ~std::uint64_t{0}}) {
    const auto result = file->read(file->tensors()[0], offset, bytes);
    BOOST_REQUIRE(!result);
    BOOST_TEST((result.error().message.find("some.weight") != std::string::npos));
  }
}

BOOST_AUTO_TEST_CASE(a_file_truncated_after_opening_gives_an_error) {
  memory_file file(one_tensor(0, {4}, std::string(16, 'a')).bytes());
  const auto opened_file = gguf_file::open(file.path());
  BOOST_REQUIRE(opened_file.has_value());
  file.truncate(20);
  std::vector<std::byte> bytes(16);
  const auto result = (*opened_file)->read((*opened_file)->tensors()[0], 0, bytes);
  BOOST_REQUIRE(!result);
  BOOST_TEST((result.error().code == error_code::file_malformed));
  BOOST_TEST((result.error().message.find("was longer when it was opened") != std::string::npos));
}

BOOST_AUTO_TEST_CASE(names_a_file_that_is_not_there_or_no_file) {
  for (const char* path : {"/nonexistent/model.gguf", "/"}) {
    const auto result = gguf_file::open(path);
    BOOST_REQUIRE(!result);
    BOOST_TEST((result.error().code == error_code::file_not_found));
    BOOST_TEST((result.error().message.find(path) != std::string::npos));
  }
}

BOOST_AUTO_TEST_CASE(does_not_wait_at_a_fifo) {
  const auto path = std::filesystem::temp_directory_path() / ("gguf_fifo_" + std::to_string(::getpid()));
  BOOST_REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const auto result = gguf_file::open(path);
  std::filesystem::remove(path);
  BOOST_REQUIRE(!result);
  BOOST_TEST((result.error().message.find("not a regular file") != std::string::npos));
}

BOOST_AUTO_TEST_CASE(refuses_what_is_not_gguf_or_another_version) {
  check_refused(std::string(), "ends inside the magic number");
  check_refused(std::string("GGML and more than that"), "letters GGUF");
  gguf_writer writer;
  for (const std::uint32_t version : {0U, 1U, 4U}) {
    writer.version = version;
    check_refused(writer, "its version is " + std::to_string(version));
  }
  writer.version = 3U << 24;
  check_refused(writer, "big endian");
}

BOOST_AUTO_TEST_CASE(refuses_counts_that_the_file_cannot_hold) {
  std::string bytes = one_tensor(0, {4}, std::string(16, 'a')).bytes();
  for (const std::uint64_t count : {std::uint64_t{1000}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    std::string tensors = bytes;
    std::memcpy(tensors.data() + 8, &count, 8);
    check_refused(tensors, "the number of tensors is " + std::to_string(count));
    std::string keys = bytes;
    std::memcpy(keys.data() + 16, &count, 8);
    check_refused(keys, "the number of metadata keys is " + std::to_string(count));
    for (const std::uint32_t kind : {0U, 4U, 8U, 12U}) {
      gguf_writer writer;
      writer.add_raw("some.array", 9, raw(kind) + raw(count));
      check_refused(writer, "the length of the array \"some.array\" is " + std::to_string(count));
    }
    gguf_writer writer;
    writer.add_raw("some.text", 8, raw(count));
    check_refused(writer, "the value of key \"some.text\"");
  }
}

BOOST_AUTO_TEST_CASE(refuses_kinds_that_it_does_not_know) {
  gguf_writer writer;
  writer.add_raw("odd", 13, raw(1ULL));
  check_refused(writer, "key \"odd\" is of the unknown kind 13");
  writer.remove("odd");
  writer.add_raw("nested", 9, raw<std::uint32_t>(9) + raw<std::uint64_t>(1) + raw(0ULL) + raw(0ULL));
  check_refused(writer, "the array \"nested\" holds arrays");
  writer.remove("nested");
  writer.add_raw("odd", 9, raw<std::uint32_t>(99) + raw<std::uint64_t>(0));
  check_refused(writer, "values of the unknown kind 99");
}

BOOST_AUTO_TEST_CASE(refuses_booleans_that_are_neither) {
  gguf_writer writer;
  writer.add_raw("flag", 7, "\2");
  check_refused(writer, "\"flag\" is a boolean of 2");
  writer.remove("flag");
  writer.add_raw("flags", 9, raw<std::uint32_t>(7) + raw<std::uint64_t>(2) + "\1\3");
  check_refused(writer, "\"flags\" holds a boolean of 3");
}

BOOST_AUTO_TEST_CASE(refuses_duplicates) {
  gguf_writer keys;
  keys.add_u32("a.key", 1);
  keys.add_u32("a.key", 2);
  check_refused(keys, "the key \"a.key\" occurs twice");
  gguf_writer tensors;
  tensors.add_tensor("a.tensor", 0, {1}, std::string(4, 'a'));
  tensors.add_tensor("a.tensor", 0, {1}, std::string(4, 'a'));
  check_refused(tensors, "the tensor \"a.tensor\" occurs twice");
}

BOOST_AUTO_TEST_CASE(refuses_alignments_that_are_no_power_of_two) {
  for (const std::uint32_t alignment : {0U, 3U, 48U, 1U << 30}) {
    gguf_writer writer = one_tensor(0, {4}, std::string(16, 'a'));
    writer.add_u32("general.alignment", alignment);
    check_refused(writer, "general.alignment is " + std::to_string(alignment));
  }
  gguf_writer writer = one_tensor(0, {4}, std::string(16, 'a'));
  writer.add_string("general.alignment", "32");
  check_refused(writer, "general.alignment is not an integer");
}

BOOST_AUTO_TEST_CASE(honours_another_alignment) {
  gguf_writer writer;
  writer.alignment = 256;
  writer.add_u32("general.alignment", 256);
  writer.add_tensor("a", 0, {1}, "aaaa");
  writer.add_tensor("b", 0, {1}, "bbbb");
  const auto file = opened(writer);
  std::byte bytes[4];
  BOOST_REQUIRE(file->read(*file->find_tensor("b"), 0, bytes).has_value());
  BOOST_TEST((bytes[0] == std::byte{'b'}));
}

BOOST_AUTO_TEST_CASE(refuses_impossible_shapes) {
  check_refused(one_tensor(0, {}, "aaaa"), "\"some.weight\" has 0 dimensions");
  check_refused(one_tensor(0, {1, 1, 1, 1, 1}, "aaaa"), "\"some.weight\" has 5 dimensions");
  check_refused(one_tensor(0, {4, 0}, "aaaa"), "dimension 1 of tensor \"some.weight\" is 0");
  // The products wrap around to small numbers.
  check_refused(one_tensor(0, {1ULL << 32, 1ULL << 32}, "aaaa"), "dimension 1 of tensor \"some.weight\"");
  check_refused(one_tensor(0, {1ULL << 63, 2}, "aaaa"), "dimension 0 of tensor \"some.weight\"");
  check_refused(one_tensor(0, {1ULL << 31, 1ULL << 31, 4, 1}, "aaaa"),
                "dimension 2 of tensor \"some.weight\"");
  // The count fits 64 bits, but its bytes do not.
  check_refused(one_tensor(0, {1ULL << 62}, "aaaa"), "beyond the end of the file");
}

BOOST_AUTO_TEST_CASE(refuses_rows_that_are_no_whole_groups) {
  check_refused(one_tensor(8, {31}, std::string(64, 'a')), "the row length of tensor \"some.weight\" is 31");
  check_refused(one_tensor(35, {128, 2}, std::string(66, 'a')), "TQ2_0 stores groups of 256");
  check_refused(one_tensor(36, {100, 1}, std::string(64, 'a')),
                "the number of weights of tensor \"some.weight\" is 100");
}

BOOST_AUTO_TEST_CASE(refuses_data_outside_the_file) {
  check_refused(one_tensor(0, {5}, std::string(16, 'a')), "tensor \"some.weight\" (F32) of 20 bytes");
  // 128 weights need 32 bytes and the 32 of the scale.
  check_refused(one_tensor(36, {128}, std::string(63, 'a')), "tensor \"some.weight\" (I2_S) of 64 bytes");
  for (const std::uint64_t offset : {std::uint64_t{32}, std::uint64_t{1} << 62, ~std::uint64_t{0} - 31}) {
    gguf_writer writer = one_tensor(0, {4}, std::string(16, 'a'));
    std::string bytes = writer.bytes();
    // The offset is the last field of the tensor's description, right before the padding.
    const std::size_t place = 24 + 8 + std::strlen("some.weight") + 4 + 8 + 4;
    std::memcpy(bytes.data() + place, &offset, 8);
    check_refused(bytes, "lies beyond the end of the file");
  }
}

BOOST_AUTO_TEST_CASE(refuses_misaligned_and_overlapping_data) {
  gguf_writer writer;
  writer.add_tensor("a", 0, {16}, std::string(64, 'a'));
  writer.add_tensor("b", 0, {8}, std::string(32, 'b'));
  writer.tensors()[1].offset = 33;
  check_refused(writer, "the offset 33 of tensor \"b\"");
  writer.tensors()[1].offset = 32;
  check_refused(writer, "the tensors \"a\" and \"b\" overlap");
  writer.tensors()[1].offset = 64;
  BOOST_TEST((opened(writer)->find_tensor("b") != nullptr));
}

BOOST_AUTO_TEST_CASE(messages_escape_what_a_file_smuggles_in) {
  gguf_writer writer;
  const std::string name = "evil\n\x1B[2J\"" + std::string(200, 'x');
  writer.add_raw(name, 99, "");
  const memory_file file(writer.bytes());
  const auto result = gguf_file::open(file.path());
  BOOST_REQUIRE(!result);
  BOOST_TEST((result.error().message.find("evil\\x0a\\x1b[2J\\\"xxx") != std::string::npos));
  BOOST_TEST((result.error().message.find_first_of("\n\x1B") == std::string::npos));
  BOOST_TEST(result.error().message.size() < 300U);
}

BOOST_AUTO_TEST_CASE(names_types_known_and_unknown) {
  BOOST_TEST(tensor_type_name(36) == "I2_S");
  BOOST_TEST(tensor_type_name(30) == "BF16");
  BOOST_TEST(tensor_type_name(38) == "TL1");
  BOOST_TEST(tensor_type_name(39) == "TL2");
  BOOST_TEST(tensor_type_name(14) == "Q6_K");
  BOOST_TEST(tensor_type_name(23) == "IQ4_XS");
  BOOST_TEST(tensor_type_name(4) == "type 4");
  BOOST_TEST(tensor_type_name(4000000000U) == "type 4000000000");
}

BOOST_AUTO_TEST_SUITE_END()
