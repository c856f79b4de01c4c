#pragma once

namespace bitnet::actors {

/// Tells ThreadSanitizer what orders an actor's handlers: what was done before a message was put into its
/// mailbox, and what its earlier handlers did, on whatever thread, comes before what a handler does. CAF sees
/// to that with atomics in a library that is not instrumented. Nothing in other builds.
class mailbox_order {
 public:
  void before_enqueue() noexcept { release(); }
  void before_handling() noexcept { acquire(); }
  void after_handling() noexcept { release(); }

 private:
#ifdef __SANITIZE_THREAD__
  void acquire() noexcept;
  void release() noexcept;
#else
  void acquire() noexcept {}
  void release() noexcept {}
#endif
};

}  // namespace bitnet::actors

#ifdef __SANITIZE_THREAD__
// Of GCC's run-time library (sanitizer/tsan_interface.h).
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);

inline void bitnet::actors::mailbox_order::acquire() noexcept {
  __tsan_acquire(this);
}
inline void bitnet::actors::mailbox_order::release() noexcept {
  __tsan_release(this);
}
#endif
