#pragma once

#include "kernels/head_screen.hpp"

namespace bitnet::kernels {

// One table an instruction set; each is defined in its own unit, compiled with its own flags.
extern const head_screen_kernels scalar_head_screen_kernels;
extern const head_screen_kernels avx2_head_screen_kernels;
extern const head_screen_kernels avx_vnni_head_screen_kernels;
extern const head_screen_kernels avx512_head_screen_kernels;
extern const head_screen_kernels amx_head_screen_kernels;

}  // namespace bitnet::kernels
