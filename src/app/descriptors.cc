#include "app/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

namespace penstock::app {

uint64_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  rlimit raised = limit;
  raised.rlim_cur = limit.rlim_max;
  return ::setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

size_t ConnectionsPerLoop(uint64_t limit, size_t loops, size_t wanted) {
  const uint64_t clients = limit / 5 * 2 / std::max<size_t>(1, loops);
  return static_cast<size_t>(std::clamp<uint64_t>(clients, 1, std::max<size_t>(1, wanted)));
}

}  // namespace penstock::app
