#pragma once

#include "engine/error.hpp"
#include "engine/gguf.hpp"
#include "engine/load_session.hpp"
#include "kernels/matrix.hpp"

namespace bitnet::engine {

/// Packs one linear layer's weights and sets their scale, on all threads of the session.
/// I2_S, and TQ1_0 and TQ2_0 with one scale for all groups, are taken as they are; so are F32, F16 and BF16
/// with no values but -s, 0 and +s. Others are quantised by the absmean rule and noted in the session.
/// Precondition: `out` was made with the tensor's two dimensions.
result<void> load_linear(load_session& session, const gguf_tensor& tensor, kernels::ternary_matrix& out);

}  // namespace bitnet::engine
