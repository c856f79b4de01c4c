#pragma once

namespace bitnet::kernels {
namespace {

/// While it lives, this thread's float arithmetic takes subnormal operands for zero and gives zero instead of
/// subnormal results (MXCSR's DAZ and FTZ), as the AMX units always do. The code under it must be a call that
/// is not inlined: compilers move arithmetic past changes of the control register.
class flush_subnormals {
#ifdef __SSE__
 public:
  flush_subnormals() noexcept : before_(__builtin_ia32_stmxcsr()) {
    __builtin_ia32_ldmxcsr(before_ | 0x8040U);
  }
  ~flush_subnormals() {
    __builtin_ia32_ldmxcsr(before_);
  }
  flush_subnormals(const flush_subnormals&) = delete;
  flush_subnormals& operator=(const flush_subnormals&) = delete;

 private:
  unsigned before_;
#endif
};

}  // namespace
}  // namespace bitnet::kernels
