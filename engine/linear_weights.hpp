#pragma once

#include "engine/error.hpp"
#include "engine/gguf.hpp"
#include "engine/load_session.hpp"
#include "kernels/matrix.hpp"

namespace bitnet::engine {

/// Packs one linear layer's weights, on all threads of the session.
/// I2_S, and TQ1_0 and TQ2_0 with one scale for all groups, are taken as they are; so are F32, F16 and BF16 with
/// no values but -s, 0 and +s. Others are quantised by the absmean rule and noted in the session.
/// Precondition: the tensor has two dimensions of at most 2^18.
result<kernels::ternary_matrix> load_linear(load_session& session, const gguf_tensor& tensor);

}  // namespace bitnet::engine
