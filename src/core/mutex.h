// A mutex that clang's thread-safety analysis understands, and the annotations that go with it.
// g++ ignores them; the `clang` preset turns a violation into an error.
#pragma once

#include <mutex>

#if defined(__clang__)
#define PENSTOCK_TSA(x) __attribute__((x))
#else
#define PENSTOCK_TSA(x)
#endif

#define GUARDED_BY(x) PENSTOCK_TSA(guarded_by(x))
#define REQUIRES_LOCK(...) PENSTOCK_TSA(requires_capability(__VA_ARGS__))
#define EXCLUDES_LOCK(...) PENSTOCK_TSA(locks_excluded(__VA_ARGS__))

namespace penstock {

class PENSTOCK_TSA(capability("mutex")) Mutex {
 public:
  void Lock() PENSTOCK_TSA(acquire_capability()) { mutex_.lock(); }
  void Unlock() PENSTOCK_TSA(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class PENSTOCK_TSA(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) PENSTOCK_TSA(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.Lock();
  }
  ~MutexLock() PENSTOCK_TSA(release_capability()) { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace penstock
