#include "engine/weight_protection.hpp"

#include "engine/model_identity.hpp"

#include <fmt/format.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace bitnet::engine {

namespace {

/// Where kernels::weight_buffer puts its memory: nothing else shares its pages.
constexpr std::uintptr_t buffer_alignment = std::uintptr_t{2} << 20U;
/// Matrices of one kernels::weight_arena lie side by side, whole lines of the cache each.
constexpr std::uintptr_t largest_gap = 64;

struct page_range {
  std::uintptr_t begin;
  std::uintptr_t end;
};

std::uintptr_t page_bytes() noexcept {
  return static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
}

std::uintptr_t address_of(const std::byte* p) noexcept {
  return reinterpret_cast<std::uintptr_t>(p);
}

/// Pages that hold packed weights and nothing else: buffers from their first page to their last. As few
/// ranges as there are buffers, because a border within a huge page costs that huge page.
std::vector<page_range> weight_pages(const model_weights& weights) {
  auto regions = weight_regions(weights);
  // What malloc gave shares its pages with what is written to.
  std::erase_if(regions, [](const weight_region& region) { return !region.in_buffer; });
  std::sort(regions.begin(), regions.end(), [](const weight_region& a, const weight_region& b) {
    return address_of(a.bytes.data()) < address_of(b.bytes.data());
  });
  std::vector<page_range> pages;
  for (const auto& region : regions) {
    const auto begin = address_of(region.bytes.data());
    const auto end = begin + region.bytes.size();
    if (begin % buffer_alignment == 0)
      pages.push_back({begin, end});
    else if (!pages.empty() && begin - pages.back().end <= largest_gap)
      pages.back().end = end;
  }
  const auto page = page_bytes();
  for (auto& range : pages) range.end = (range.end + page - 1) / page * page;
  return pages;
}

bool set_protection(const page_range& range, int protection) noexcept {
  return mprotect(reinterpret_cast<void*>(range.begin), range.end - range.begin, protection) == 0;
}

}  // namespace

std::size_t protect_weights(const model_weights& weights) {
  std::size_t total = 0;
  for (const auto& range : weight_pages(weights))
    if (set_protection(range, PROT_READ)) total += range.end - range.begin;
  return total;
}

result<std::string> flip_weight_bit(const model_weights& weights, const std::string& region,
                                    std::size_t offset) {
  const auto regions = weight_regions(weights);
  const auto by_size = [](const weight_region& a, const weight_region& b) {
    return a.bytes.size() < b.bytes.size();
  };
  const auto found = region.empty() ? std::max_element(regions.begin(), regions.end(), by_size)
                                    : std::find_if(regions.begin(), regions.end(),
                                                   [&](const weight_region& r) { return r.name == region; });
  if (found == regions.end())
    return fail(error_code::invalid_request, fmt::format("There are no weights '{}'.", region));
  if (offset >= found->bytes.size())
    return fail(error_code::invalid_request,
                fmt::format("'{}' has {} bytes, so none at {}.", found->name, found->bytes.size(), offset));
  auto* const target = const_cast<std::byte*>(found->bytes.data()) + offset;
  const auto page = address_of(target) / page_bytes() * page_bytes();
  const auto buffers = weight_pages(weights);
  const bool in_buffer = std::any_of(buffers.begin(), buffers.end(), [page](const page_range& range) {
    return range.begin <= page && page < range.end;
  });
  const page_range around{page, page + page_bytes()};
  if (in_buffer && !set_protection(around, PROT_READ | PROT_WRITE))
    return fail(error_code::internal,
                fmt::format("cannot make '{}' writable: {}", found->name, ::strerror(errno)));
  *target ^= std::byte{1};
  if (in_buffer) set_protection(around, PROT_READ);
  return found->name;
}

float exchange_output_norm(const model_weights& weights, float value) noexcept {
  return std::exchange(const_cast<float&>(weights.output_norm.front()), value);
}

}  // namespace bitnet::engine
