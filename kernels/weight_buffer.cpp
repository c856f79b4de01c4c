#include "kernels/weight_buffer.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <limits>
#include <new>

namespace bitnet::kernels {

namespace {

constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;
constexpr std::size_t page_bytes = 4096;
constexpr std::size_t line_bytes = 64;

constexpr std::size_t round_up(std::size_t n, std::size_t multiple) noexcept {
  return (n + multiple - 1) / multiple * multiple;
}

/// Whole huge pages where that wastes little, so that the end of the memory is no slower than the rest.
constexpr std::size_t mapped_bytes(std::size_t bytes) noexcept {
  const std::size_t huge = round_up(bytes, huge_page_bytes);
  return huge - bytes <= bytes / 4 ? huge : round_up(bytes, page_bytes);
}

}  // namespace

weight_buffer::weight_buffer(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
  const std::size_t mapped = mapped_bytes(bytes);
  const std::size_t reserved = mapped + huge_page_bytes;
  void* const p = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  // Give back what lies before the 2 MiB boundary and behind the end.
  auto* const begin = static_cast<std::byte*>(p);
  const std::size_t address = reinterpret_cast<std::uintptr_t>(begin);
  const std::size_t before = round_up(address, huge_page_bytes) - address;
  const std::size_t after = huge_page_bytes - before;
  if (before != 0) munmap(begin, before);
  if (after != 0) munmap(begin + before + mapped, after);
  // Advice only: without huge pages the kernels are slower, not wrong.
  madvise(begin + before, mapped, MADV_HUGEPAGE);
  data_ = std::shared_ptr<std::byte>(begin + before, [mapped](std::byte* memory) { munmap(memory, mapped); });
}

weight_buffer weight_arena::take(std::size_t bytes) {
  const std::size_t whole_lines = round_up(bytes, line_bytes);
  if (whole_lines < bytes || memory_.size() - taken_ < whole_lines) throw std::bad_alloc();
  std::byte* const start = memory_.data() + taken_;
  taken_ += whole_lines;
  return {std::shared_ptr<std::byte>(memory_.data_, start), bytes};
}

}  // namespace bitnet::kernels
