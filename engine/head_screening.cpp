#include "engine/head_screening.hpp"

#include "kernels/team.hpp"

#include <algorithm>
#include <vector>

namespace bitnet::engine {

namespace {

/// Blocks whose sums are added up by one thread, whatever the number of threads: the order of a sum decides
/// its last bits.
constexpr std::size_t slice_blocks = 256;

}  // namespace

kernels::head_screen make_head_screen(const kernels::head_matrix& head, std::size_t threads) {
  using sums = std::vector<kernels::head_screen::column_sums>;
  kernels::head_screen screen(head);
  const auto blocks = head.block_count();
  std::vector<sums> slices((blocks + slice_blocks - 1) / slice_blocks, sums(head.cols()));
  kernels::team team(threads);
  team.run([&](kernels::team_member& member) {
    for (auto s = member.index(); s < slices.size(); s += member.size()) {
      const auto last = std::min(blocks, (s + 1) * slice_blocks);
      for (auto b = s * slice_blocks; b < last; ++b) kernels::head_screen::add_block(head, b, slices[s]);
    }
    member.barrier();
    if (member.index() == 0) {
      sums total(head.cols());
      for (const auto& slice : slices) {
        for (std::size_t c = 0; c < total.size(); ++c) {
          total[c].values += slice[c].values;
          total[c].squares += slice[c].squares;
        }
      }
      screen.fold(total);
    }
    member.barrier();
    const auto mine = member.share(blocks);
    for (auto b = mine.first; b < mine.last; ++b) screen.pack_block(b, head);
  });
  return screen;
}

}  // namespace bitnet::engine
