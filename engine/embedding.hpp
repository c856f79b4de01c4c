#pragma once

#include "engine/error.hpp"
#include "engine/gguf.hpp"
#include "engine/load_session.hpp"
#include "engine/weights.hpp"
#include "kernels/matrix.hpp"

#include <memory>

namespace bitnet::engine {

/// Copies the table as it is stored. Refuses types that dequantize() does not read and, with `check_values`,
/// values that are not finite (head_from_embedding checks too). Precondition: two dimensions, rows of at most
/// kernels::max_matrix_cols.
result<std::unique_ptr<embedding_table>> load_embedding(load_session& session, const gguf_tensor& tensor,
                                                        bool check_values);

/// The LM head, from the rows of its own tensor (the same conditions).
result<kernels::head_matrix> load_head(load_session& session, const gguf_tensor& tensor,
                                       kernels::head_matrix::format format);

/// The LM head of a model with tied embeddings, from the table that load_embedding() made of `tensor`.
/// Refuses values that are not finite.
result<kernels::head_matrix> head_from_embedding(load_session& session, const gguf_tensor& tensor,
                                                 const embedding_table& table,
                                                 kernels::head_matrix::format format);

}  // namespace bitnet::engine
