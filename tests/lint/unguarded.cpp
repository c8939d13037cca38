// Every way to break what core/mutex.h's annotations promise. scripts/check-locks requires lint to refuse each line that is
// marked "refused", and no other. Not built.
#include "core/mutex.h"

namespace celslm {

class Unguarded {
 public:
  int read() { return value_; }  // refused
  void write() { ++value_; }     // refused
  void write_after_unlock() {
    MutexLock lock(mutex_);
    ++value_;
    lock.unlock();
    ++value_;  // refused
  }
  void call_without() { change(); }  // refused
  void wait_without() {
    changed_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return value_ > 0; });  // refused
  }
  void wait_for_unannotated() {
    const MutexLock lock(mutex_);
    changed_.wait(mutex_, [&] { return value_ > 0; });  // refused
  }
  void take_twice() {
    const MutexLock lock(mutex_);
    taker();  // refused
  }
  void take_in_the_wrong_order() {
    const MutexLock second(second_);
    const MutexLock first(mutex_);  // refused
  }
  void leave_locked() {
    mutex_.lock();
    ++value_;
  }  // refused

  void change() CELSLM_REQUIRES(mutex_) { ++value_; }
  void taker() CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    change();
    changed_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return value_ > 0; });
    const MutexLock second(second_);
  }

 private:
  Mutex mutex_;
  Mutex second_ CELSLM_ACQUIRED_AFTER(mutex_);
  ConditionVariable changed_;
  int value_ CELSLM_GUARDED_BY(mutex_) = 0;
};

}  // namespace celslm
