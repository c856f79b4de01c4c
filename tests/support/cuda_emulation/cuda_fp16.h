#pragma once
// Conversions are in kernels/cuda/ptx.cuh of this folder.
