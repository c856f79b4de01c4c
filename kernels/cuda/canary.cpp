#include "kernels/cuda/canary.hpp"

#include "kernels/cuda/layout.hpp"
#include "kernels/cuda/operators.hpp"
#include "kernels/cuda/runtime.hpp"

#include <cstdint>
#include <new>
#include <vector>

namespace bitnet::kernels::cuda {

namespace {

constexpr std::size_t rows = 16;
constexpr std::size_t cols = col_padding;
constexpr std::size_t tokens = 2;  // one by dp4a, both on tensor cores

std::int32_t weight(std::size_t row, std::size_t col) {
  return static_cast<std::int32_t>((row * 7 + col * 5) % 3) - 1;
}
std::int32_t activation(std::size_t token, std::size_t col) {
  return static_cast<std::int32_t>((token * 31 + col * 13) % 255) - 127;
}

template <class T>
device_buffer on_device(stream& on, const std::vector<T>& values) {
  device_buffer buffer(values.size() * sizeof(T));
  on.copy_to_device(buffer.as<T>(), values.data(), values.size() * sizeof(T));
  return buffer;
}

std::optional<std::string> compute() {
  stream on;
  std::vector<std::uint8_t> tiles(rows * cols / 4);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c) {
      const auto place = ternary_place_of(r, c, cols);
      tiles[place.byte] = static_cast<std::uint8_t>(tiles[place.byte] | (weight(r, c) + 1) << place.shift);
    }
  std::vector<std::int8_t> x(tokens * cols);
  std::vector<std::int32_t> sums(tokens);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t c = 0; c < cols; ++c) {
      x[t * cols + c] = static_cast<std::int8_t>(activation(t, c));
      sums[t] += activation(t, c);
    }
  const auto device_tiles = on_device(on, tiles);
  const auto row_scales = on_device(on, std::vector<float>(rows, 0.5F));
  const auto device_x = on_device(on, x);
  const auto scales = on_device(on, std::vector<float>(tokens, 0.25F));
  const auto device_sums = on_device(on, sums);
  const device_buffer y(tokens * rows * sizeof(float));
  const weight_view w{device_tiles.as<std::uint8_t>(), row_scales.as<float>(), rows, rows, cols};
  const activation_view a{device_x.as<std::int8_t>(), scales.as<float>(), device_sums.as<std::int32_t>(),
                          cols};
  for (std::size_t count = 1; count <= tokens; ++count) {
    multiply(w, weight_format::ternary, a, count, y.as<float>(), rows, product_output::store, on.handle());
    std::vector<float> results(count * rows);
    on.copy_to_host(results.data(), y.as<float>(), results.size() * sizeof(float));
    on.wait();
    for (std::size_t t = 0; t < count; ++t)
      for (std::size_t r = 0; r < rows; ++r) {
        std::int32_t dot = 0;
        for (std::size_t c = 0; c < cols; ++c) dot += weight(r, c) * activation(t, c);
        if (results[t * rows + r] != static_cast<float>(dot) * 0.125F)
          return "a product of " + std::to_string(count) + " tokens is wrong: the GPU computes wrongly";
      }
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> run_canary(int device) {
  try {
    make_current(device);
    return compute();
  } catch (const device_error& problem) {
    return std::string(problem.what());
  } catch (const std::bad_alloc&) {
    return std::nullopt;  // of the host; says nothing about the device
  }
}

}  // namespace bitnet::kernels::cuda
