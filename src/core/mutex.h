// A mutex, the lock that holds it and what waits under it, with Clang's thread-safety annotations: lint reads all code with
// -Wthread-safety and refuses a guarded field that is touched without its mutex. For g++ the annotations are empty.
//
//   Mutex mutex_;
//   ConditionVariable arrived_;
//   std::deque<int> queue_ CELSLM_GUARDED_BY(mutex_);
//   int take() CELSLM_REQUIRES(mutex_);    // the caller holds mutex_
//   int next() CELSLM_EXCLUDES(mutex_) {   // the caller does not: this takes it
//     const MutexLock lock(mutex_);
//     arrived_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return !queue_.empty(); });
//     return take();
//   }
//
// A lambda is a function of its own: one that runs under the lock is annotated, as above. What the analysis does not see: a
// reference to a guarded field that outlives the lock; constructors and destructors, where no other thread may know the
// object.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <utility>

#if defined(__clang__)
#define CELSLM_THREAD_ATTRIBUTE_(x) __attribute__((x))
#else
#define CELSLM_THREAD_ATTRIBUTE_(x)
#endif

// Of fields.
#define CELSLM_GUARDED_BY(mutex) CELSLM_THREAD_ATTRIBUTE_(guarded_by(mutex))
#define CELSLM_ACQUIRED_AFTER(...) CELSLM_THREAD_ATTRIBUTE_(acquired_after(__VA_ARGS__))  // a mutex: the order of two

// Of functions.
#define CELSLM_REQUIRES(...) CELSLM_THREAD_ATTRIBUTE_(requires_capability(__VA_ARGS__))  // held before and after
#define CELSLM_EXCLUDES(...) CELSLM_THREAD_ATTRIBUTE_(locks_excluded(__VA_ARGS__))       // not held: taken inside
#define CELSLM_ACQUIRE(...) CELSLM_THREAD_ATTRIBUTE_(acquire_capability(__VA_ARGS__))    // held after, not before
#define CELSLM_RELEASE(...) CELSLM_THREAD_ATTRIBUTE_(release_capability(__VA_ARGS__))    // held before, not after

// Of types.
#define CELSLM_CAPABILITY(name) CELSLM_THREAD_ATTRIBUTE_(capability(name))
#define CELSLM_SCOPED_CAPABILITY CELSLM_THREAD_ATTRIBUTE_(scoped_lockable)

namespace celslm {

// Not recursive. Taken by a MutexLock; lock() and unlock() are for a function that releases its caller's lock for a while.
class CELSLM_CAPABILITY("mutex") Mutex {
 public:
  void lock() CELSLM_ACQUIRE() { mutex_.lock(); }
  void unlock() CELSLM_RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

// Holds a mutex from its construction to its end; may release it earlier, and take it again.
class CELSLM_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) CELSLM_ACQUIRE(mutex) : lock_(mutex) {}
  ~MutexLock() CELSLM_RELEASE() {}
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void unlock() CELSLM_RELEASE() { lock_.unlock(); }
  void lock() CELSLM_ACQUIRE() { lock_.lock(); }

 private:
  std::unique_lock<Mutex> lock_;
};

// Waits until done() is true; done runs under the mutex and is annotated CELSLM_REQUIRES(mutex). The mutex is held when a
// wait returns. Those that a deadline or a stop may end return what done() returned last.
class ConditionVariable {
 public:
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

  template <typename Done>
  void wait(Mutex& mutex, Done done) CELSLM_REQUIRES(mutex) {
    condition_.wait(mutex, std::move(done));
  }
  template <typename Done>
  bool wait(Mutex& mutex, std::stop_token stop, Done done) CELSLM_REQUIRES(mutex) {
    return condition_.wait(mutex, std::move(stop), std::move(done));
  }
  template <typename Done>
  bool wait_for(Mutex& mutex, std::chrono::nanoseconds time, Done done) CELSLM_REQUIRES(mutex) {
    return condition_.wait_for(mutex, time, std::move(done));
  }
  template <typename Done>
  bool wait_for(Mutex& mutex, std::stop_token stop, std::chrono::nanoseconds time, Done done) CELSLM_REQUIRES(mutex) {
    return condition_.wait_for(mutex, std::move(stop), time, std::move(done));
  }
  template <typename Done>
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point time, Done done) CELSLM_REQUIRES(mutex) {
    return condition_.wait_until(mutex, time, std::move(done));
  }

 private:
  std::condition_variable_any condition_;  // the kind that waits on any mutex, and that a stop_token wakes
};

}  // namespace celslm
