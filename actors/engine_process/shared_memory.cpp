#include "actors/engine_process/shared_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace bitnet::actors {

void shared_pages::unmap::operator()(void* p) const noexcept {
  munmap(p, bytes);
}

std::optional<shared_pages> shared_pages::map(descriptor file, std::size_t bytes) {
  void* const p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (p == MAP_FAILED) return std::nullopt;
  return shared_pages(std::move(file), p, bytes);
}

std::optional<shared_pages> shared_pages::create(std::size_t bytes) {
  descriptor file(memfd_create("bitnet-signs", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file || ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) return std::nullopt;
  if (fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return std::nullopt;
  return map(std::move(file), bytes);
}

std::optional<shared_pages> shared_pages::open(descriptor memory, std::size_t bytes) {
  struct stat status {};
  if (!memory || fstat(memory.get(), &status) != 0 || static_cast<std::size_t>(status.st_size) < bytes)
    return std::nullopt;
  const int seals = fcntl(memory.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return std::nullopt;
  return map(std::move(memory), bytes);
}

}  // namespace bitnet::actors
