#pragma once

#include "engine/error.hpp"
#include "engine/gguf.hpp"
#include "engine/load_session.hpp"
#include "engine/weights.hpp"
#include "kernels/matrix.hpp"

#include <memory>

namespace bitnet::engine {

/// Copies the table as it is stored. Refuses types that dequantize() does not read and values that are not
/// finite. Precondition: two dimensions of at most 2^24.
result<std::unique_ptr<embedding_table>> load_embedding(load_session& session, const gguf_tensor& tensor);

/// The LM head, from the rows of its own tensor (the same conditions).
result<kernels::head_matrix> load_head(load_session& session, const gguf_tensor& tensor,
                                       kernels::head_matrix::format format);

/// The LM head of a model with tied embeddings, from a table of `rows` rows of `cols` values.
result<kernels::head_matrix> head_from_embedding(load_session& session, const embedding_table& table,
                                                 std::size_t rows, std::size_t cols,
                                                 kernels::head_matrix::format format);

}  // namespace bitnet::engine
