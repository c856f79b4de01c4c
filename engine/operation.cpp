#include "engine/transformer.hpp"

namespace bitnet::engine {

const char* to_string(operation op) noexcept {
  switch (op) {
    case operation::embedding:
      return "embedding";
    case operation::attention_norm:
      return "attention_norm";
    case operation::qkv_matmul:
      return "qkv_matmul";
    case operation::rope_and_store:
      return "rope_and_store";
    case operation::attention:
      return "attention";
    case operation::attention_sub_norm:
      return "attention_sub_norm";
    case operation::output_matmul:
      return "output_matmul";
    case operation::ffn_norm:
      return "ffn_norm";
    case operation::gate_up_matmul:
      return "gate_up_matmul";
    case operation::ffn_sub_norm:
      return "ffn_sub_norm";
    case operation::down_matmul:
      return "down_matmul";
    case operation::output_norm:
      return "output_norm";
    case operation::head_matmul:
      return "head_matmul";
    case operation::head_candidates:
      return "head_candidates";
  }
  return "unknown";
}

}  // namespace bitnet::engine
