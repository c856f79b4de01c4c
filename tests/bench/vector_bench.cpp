// Speed of the float operators and of attention on one thread, for each instruction set of this CPU:
//   kernels_vector_bench [instruction set]
// Times are the best of several rounds of the thread's own processor time, so that other processes disturb
// little.

#include "kernels/vector.hpp"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string_view>
#include <vector>

namespace {

using namespace bitnet::kernels;
using floats = std::vector<float>;

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Best time of one call, from rounds of several calls that last about a millisecond each.
double seconds_of(const std::function<void()>& call) {
  double start = thread_seconds();
  call();
  const int calls = std::max(1, static_cast<int>(1e-3 / (thread_seconds() - start + 1e-9)));
  double best = 1e9;
  for (int round = 0; round < 15; ++round) {
    start = thread_seconds();
    for (int i = 0; i < calls; ++i) call();
    best = std::min(best, (thread_seconds() - start) / calls);
  }
  return best;
}

floats random_floats(std::size_t n) {
  static std::mt19937 generator(1);
  std::normal_distribution<float> distribution;
  floats x(n);
  for (float& v : x) v = distribution(generator);
  return x;
}

void bench_operators(const vector_kernels& k) {
  constexpr std::size_t hidden = 2560;
  constexpr std::size_t feed_forward = 6912;
  constexpr std::size_t vocabulary = 128256;
  const floats a = random_floats(vocabulary);
  const floats b = random_floats(vocabulary);
  floats out(vocabulary);
  const auto report = [](const char* name, std::size_t n, const std::function<void()>& call) {
    const double seconds = seconds_of(call);
    std::printf("  %-24s %6zu floats %9.2f us %7.2f floats/ns\n", name, n, seconds * 1e6,
                static_cast<double>(n) / seconds * 1e-9);
  };
  report("rms_norm", hidden, [&] { k.rms_norm(a.data(), 0, b.data(), 1e-5F, out.data(), 0, 1, hidden); });
  report("add", hidden, [&] { k.add(a.data(), out.data(), hidden); });
  report("squared_relu_gate", feed_forward,
         [&] { k.squared_relu_gate(a.data(), b.data(), out.data(), feed_forward); });
  report("silu_gate", feed_forward, [&] { k.silu_gate(a.data(), b.data(), out.data(), feed_forward); });
  report("exponentials", feed_forward, [&] { k.exponentials(a.data(), out.data(), feed_forward); });
  // Angles whose rotation keeps the length, so that thousands of rounds in place stay in range.
  const floats cos(64, 0.6F);
  const floats sin(64, 0.8F);
  out = a;
  for (const rope_kind kind : {rope_kind::neox, rope_kind::interleaved})
    report(kind == rope_kind::neox ? "rope neox" : "rope interleaved", hidden,
           [&] { k.rope(out.data(), 20, 128, cos.data(), sin.data(), kind); });
  report("softmax", vocabulary, [&] {
    std::copy(a.begin(), a.end(), out.begin());
    k.softmax(out.data(), vocabulary, 0.8F);
  });
  report("argmax", vocabulary, [&] {
    volatile std::size_t index = k.argmax(a.data(), vocabulary);
    static_cast<void>(index);
  });
}

struct attention_case {
  const char* name;
  std::size_t tokens;
  std::size_t position;
  std::size_t heads = 20;
  std::size_t kv_heads = 5;
  std::size_t head_dim = 128;
};

void bench_attention(const vector_kernels& k, const attention_case& c) {
  const std::size_t positions = c.position + c.tokens;
  const std::size_t width = c.heads * c.head_dim;
  const floats q = random_floats(c.tokens * width);
  const floats kv = random_floats(c.kv_heads * c.head_dim);
  floats out(q.size());
  std::vector<std::vector<std::byte>> blocks;
  std::vector<const std::byte*> pointers;
  for (std::size_t t = 0; t < positions; ++t) {
    if (t % kv_block_tokens == 0) {
      blocks.emplace_back(kv_block_bytes(c.kv_heads, c.head_dim));
      pointers.push_back(blocks.back().data());
    }
    k.store_kv(blocks.back().data(), t % kv_block_tokens, kv.data(), kv.data(), c.kv_heads, c.head_dim);
  }
  const attention_args args{.q = q.data(),
                            .q_stride = width,
                            .out = out.data(),
                            .out_stride = width,
                            .kv_blocks = pointers.data(),
                            .query_count = c.tokens,
                            .position = c.position,
                            .heads = c.heads,
                            .kv_heads = c.kv_heads,
                            .head_dim = c.head_dim,
                            .scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim))};
  const double seconds = seconds_of([&] { k.attention(args, 0, c.kv_heads); });
  const double pairs = static_cast<double>(c.tokens) *
                       (static_cast<double>(c.position) + (static_cast<double>(c.tokens) + 1) / 2);
  std::printf("  %-36s %9.3f ms %7.1f GMAC/s\n", c.name, seconds * 1e3,
              pairs * static_cast<double>(2 * width) / seconds * 1e-9);
}

void bench(instruction_set isa) {
  const vector_kernels& k = vector_kernels_for(isa);
  const std::string_view name = to_string(isa);
  std::printf("%.*s\n", static_cast<int>(name.size()), name.data());
  bench_operators(k);
  for (const attention_case& c :
       {attention_case{"512 tokens, 20/5 heads of 128", 512, 0},
        attention_case{"16 tokens after 496", 16, 496}, attention_case{"1 token after 511", 1, 511},
        attention_case{"1 token after 4095", 1, 4095},
        attention_case{"512 tokens, 16/16 heads of 96", 512, 0, 16, 16, 96}})
    bench_attention(k, c);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    const auto isa = parse_instruction_set(argv[1]);
    if (!isa || !is_supported(*isa)) {
      std::fprintf(stderr, "'%s' is not an instruction set that this build and CPU support.\n", argv[1]);
      return EXIT_FAILURE;
    }
    bench(*isa);
    return EXIT_SUCCESS;
  }
  // The reference is a hundred times slower; it runs where it is asked for.
  for (const instruction_set isa : supported_instruction_sets())
    if (isa != instruction_set::scalar) bench(isa);
  return EXIT_SUCCESS;
}
