// libFuzzer target: opens and loads arbitrary bytes as a model file. See CONTRIBUTING.md for how to run it:
// CXX=clang++ cmake -B build/fuzz -DBITNET_FUZZ=ON -DBITNET_SANITIZERS=address,undefined,fuzzer-no-link
// build/fuzz/bin/bitnet-make-synthetic-model --shape=smallest --output=corpus/smallest.gguf
// build/fuzz/bin/bitnet-gguf-fuzz -max_len=65536 corpus

#include "engine/gguf.hpp"
#include "engine/weights.hpp"
#include "tests/support/memory_file.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const bitnet::tests::memory_file file(std::string_view(reinterpret_cast<const char*>(data), size));
  const auto opened = bitnet::engine::gguf_file::open(file.path());
  if (!opened) return 0;
  bitnet::engine::load_options options;
  options.threads = 1;
  // Tensors of a file this small cannot need more: a larger wish is a bug that must not pass as a refusal.
  options.memory_limit_bytes = 64U << 20;
  const auto weights = bitnet::engine::load_weights(*opened, options);
  if (!weights && weights.error().code == bitnet::engine::error_code::out_of_memory) std::abort();
  return 0;
}
