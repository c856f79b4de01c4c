#include <cuda_runtime.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

namespace cuda_emulation {

namespace {

constexpr std::size_t stack_bytes = std::size_t{64} << 10;

struct pending_copy {
  void* to;
  const void* from;
  std::size_t bytes;
};

/// One thread of a block.
struct coroutine {
  ucontext_t context{};
  std::unique_ptr<char[]> stack;
  thread_place where;
  bool done = false;
  std::vector<std::vector<pending_copy>> groups;
  std::vector<pending_copy> open_group;
};

/// Counts who has arrived; passed when all that live have.
struct meeting {
  unsigned arrived = 0;
  std::uint64_t round = 0;
};

struct block_run {
  std::vector<coroutine> threads;
  ucontext_t scheduler{};
  coroutine* current = nullptr;
  std::size_t count = 0;  ///< threads of this block; the others are spare
  unsigned live = 0;
  meeting barrier;
  struct warp {
    meeting barrier;
    unsigned live = 0;
    std::vector<std::uint32_t> words;
  };
  std::vector<warp> warps;
  bool moved = false;  ///< something happened in this turn
  const std::function<void()>* body = nullptr;
};

thread_local block_run run;
thread_local std::uint64_t launches_so_far = 0;

void yield() {
  auto* const self = run.current;
  swapcontext(&self->context, &run.scheduler);
}

void meet(meeting& at, const unsigned& live) {
  const auto round = at.round;
  ++at.arrived;
  run.moved = true;
  while (at.round == round) {
    if (at.arrived >= live) {
      at.arrived = 0;
      ++at.round;
      run.moved = true;
      return;
    }
    yield();
  }
}

std::size_t index_in_block(const coroutine& thread) noexcept {
  return static_cast<std::size_t>(&thread - run.threads.data());
}

void enter() {
  (*run.body)();
  auto* const self = run.current;
  self->done = true;
  --run.live;
  --run.warps[index_in_block(*self) / 32].live;
  run.moved = true;
  yield();
}

void start(coroutine& thread) {
  if (!thread.stack) thread.stack = std::make_unique<char[]>(stack_bytes);
  getcontext(&thread.context);
  thread.context.uc_stack.ss_sp = thread.stack.get();
  thread.context.uc_stack.ss_size = stack_bytes;
  thread.context.uc_link = &run.scheduler;
  thread.done = false;
  thread.groups.clear();
  thread.open_group.clear();
  makecontext(&thread.context, enter, 0);
}

[[noreturn]] void die(const char* why) {
  std::fprintf(stderr, "CUDA emulation: %s\n", why);
  std::abort();
}

/// Each warp runs as far as it can before the next one does: what a barrier should have held back then
/// happens too early.
void run_block(bool backwards) {
  const std::size_t warps = run.warps.size();
  while (run.live > 0) {
    bool any_moved = false;
    for (std::size_t w = 0; w < warps; ++w) {
      const std::size_t first = (backwards ? warps - 1 - w : w) * 32;
      const std::size_t lanes = std::min<std::size_t>(32, run.count - first);
      do {
        run.moved = false;
        for (std::size_t i = 0; i < lanes; ++i) {
          auto& thread = run.threads[first + (backwards ? lanes - 1 - i : i)];
          if (thread.done) continue;
          run.current = &thread;
          swapcontext(&run.scheduler, &thread.context);
        }
        any_moved = any_moved || run.moved;
      } while (run.moved);
    }
    if (!any_moved) die("threads wait at different barriers for ever");
  }
}

void run_now(dim3 grid, dim3 block, const std::function<void()>& body) {
  const std::size_t count = std::size_t{block.x} * block.y * block.z;
  if (count == 0 || count > 1024 || grid.x == 0 || grid.y == 0 || grid.y > 65535 || grid.z != 1)
    die("a launch that a device would refuse");
  const bool backwards = launches_so_far++ % 2 == 1;
  ++injected().launches;
  if (run.threads.size() < count) run.threads.resize(count);
  run.body = &body;
  run.count = count;
  const std::size_t blocks = std::size_t{grid.x} * grid.y;
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t index = backwards ? blocks - 1 - b : b;
    run.live = static_cast<unsigned>(count);
    run.barrier = {};
    run.warps.assign((count + 31) / 32, {});
    for (std::size_t i = 0; i < count; ++i) {
      ++run.warps[i / 32].live;
      auto& thread = run.threads[i];
      thread.where = {
          .thread = dim3(static_cast<unsigned>(i)),
          .block = dim3(static_cast<unsigned>(index % grid.x), static_cast<unsigned>(index / grid.x)),
          .block_size = block,
          .grid_size = grid};
      start(thread);
    }
    for (auto& warp : run.warps) warp.words.resize(32 * 8);
    run_block(backwards);
  }
}

struct recorded_kernel {
  dim3 grid, block;
  std::function<void()> body;
};
using recording = std::vector<recorded_kernel>;
thread_local recording* recorder = nullptr;

thread_local cudaError_t last_error = cudaSuccess;
thread_local bool work_pending = false;  ///< since the last query of a stream

/// As the runtime does it: a status other than success stays until cudaGetLastError.
cudaError_t noted(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

cudaError_t take_fault() {
  return noted(static_cast<cudaError_t>(std::exchange(injected().next_call, 0)));
}

}  // namespace

faults& injected() noexcept {
  static faults f;
  return f;
}

const thread_place& place() noexcept {
  return run.current->where;
}
unsigned lane() noexcept {
  return static_cast<unsigned>(index_in_block(*run.current) % 32);
}
void block_barrier() {
  meet(run.barrier, run.live);
}

void gather(const std::uint32_t* words, unsigned count, std::uint32_t* all) {
  auto& warp = run.warps[index_in_block(*run.current) / 32];
  if (warp.live != 32) die("a warp function called without all lanes");
  std::copy_n(words, count, warp.words.begin() + lane() * count);
  meet(warp.barrier, warp.live);
  std::copy_n(warp.words.begin(), 32 * count, all);
  meet(warp.barrier, warp.live);
}
std::uint32_t exchange(std::uint32_t word, unsigned from) {
  std::uint32_t all[32];
  gather(&word, 1, all);
  return all[from];
}

void copy_later(void* to, const void* from, std::size_t bytes) {
  run.current->open_group.push_back({to, from, bytes});
}
void commit_copies() {
  run.current->groups.push_back(std::exchange(run.current->open_group, {}));
}
void finish_copies(std::size_t pending_groups) {
  auto& groups = run.current->groups;
  while (groups.size() > pending_groups) {
    for (const auto& copy : groups.front()) std::memcpy(copy.to, copy.from, copy.bytes);
    groups.erase(groups.begin());
  }
}

void run_kernel(dim3 grid, dim3 block, std::function<void()> body) {
  work_pending = true;
  if (recorder != nullptr)
    recorder->push_back({grid, block, std::move(body)});
  else
    run_now(grid, block, body);
}

}  // namespace cuda_emulation

using cuda_emulation::injected;

namespace {

/// What the device has given out. Memory of a device that hangs is never given back, as a real one's ends
/// with the process; from here a leak checker still reaches it.
class device_memory {
 public:
  void insert(void* p) {
    const std::lock_guard lock(mutex_);
    taken_.insert(p);
  }
  void erase(void* p) {
    const std::lock_guard lock(mutex_);
    taken_.erase(p);
  }

 private:
  std::mutex mutex_;
  std::set<void*> taken_;
};

device_memory& memory() {
  static auto* const all = new device_memory;
  return *all;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t) {
  return "cudaErrorEmulated";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorNoDevice ? "no CUDA-capable device is detected" : "an injected error";
}
cudaError_t cudaGetLastError() {
  return std::exchange(cuda_emulation::last_error, cudaSuccess);
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = injected().device_count;
  return cuda_emulation::noted(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  std::snprintf(properties->name, sizeof(properties->name), "Emulated device %d", device);
  properties->major = 9;
  properties->minor = 0;
  properties->totalGlobalMem = std::size_t{8} << 30;
  properties->multiProcessorCount = 4;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  std::snprintf(id, static_cast<std::size_t>(length), "0000:%02x:00.0", device + 1);
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return cuda_emulation::noted(device < injected().device_count ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  *free_bytes = injected().free_bytes;
  *total_bytes = std::size_t{8} << 30;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  if (const auto fault = cuda_emulation::take_fault(); fault != cudaSuccess) return fault;
  ++injected().allocations;
  *p = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*p == nullptr) return cuda_emulation::noted(cudaErrorMemoryAllocation);
  std::memset(*p, 0xA5, bytes);
  memory().insert(*p);
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  memory().erase(p);
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  return cudaMalloc(p, bytes);
}
cudaError_t cudaFreeHost(void* p) {
  return cudaFree(p);
}
cudaError_t cudaMemset(void* p, int value, std::size_t bytes) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t) {
  // Our graphs hold kernels only.
  if (cuda_emulation::recorder != nullptr) return cuda_emulation::noted(cudaErrorInvalidValue);
  return cudaMemset(p, value, bytes);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  if (cuda_emulation::recorder != nullptr) return cuda_emulation::noted(cudaErrorInvalidValue);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new int(0);
  memory().insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  memory().erase(stream);
  delete static_cast<int*>(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t) {
  // Work is never done at the first look, as on a device.
  if (injected().hangs || std::exchange(cuda_emulation::work_pending, false))
    return cuda_emulation::noted(cudaErrorNotReady);
  return cuda_emulation::take_fault();
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cuda_emulation::take_fault();
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  cuda_emulation::recorder = new cuda_emulation::recording;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = std::exchange(cuda_emulation::recorder, nullptr);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned) {
  if (const auto fault = cuda_emulation::take_fault(); fault != cudaSuccess) return fault;
  *executable = new cuda_emulation::recording(*static_cast<cuda_emulation::recording*>(graph));
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete static_cast<cuda_emulation::recording*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return cudaGraphDestroy(executable);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  ++injected().graph_launches;
  cuda_emulation::work_pending = true;
  for (const auto& kernel : *static_cast<cuda_emulation::recording*>(executable))
    cuda_emulation::run_now(kernel.grid, kernel.block, kernel.body);
  return cudaSuccess;
}
