// Tells ThreadSanitizer about Synchronization.Mutex. On Linux it is a futex. Taking and giving it back are inlined into the program and seen; where one
// thread has to wait for another, that happens inside libswiftSynchronization.so, which is not instrumented: what a contended Mutex guards would look
// unguarded. Loaded before that library, this takes the names of its slow paths, calls them, and says who waited for whom.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

// In a program without ThreadSanitizer, such as a server that a test starts, there is nobody to tell.
__attribute__((weak)) void __tsan_acquire(void *address);
__attribute__((weak)) void __tsan_release(void *address);

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context))

// Of `_MutexHandle`, whose first and only member is the word of the futex.
#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK_SLOW "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

typedef SWIFT void (*LockSlow)(uint32_t thread, SELF void *self);
typedef SWIFT _Bool (*TryLockSlow)(SELF void *self);
typedef SWIFT void (*UnlockSlow)(SELF void *self);

static LockSlow lock_slow;
static TryLockSlow try_lock_slow;
static UnlockSlow unlock_slow;

__attribute__((constructor)) static void find(void) {
  lock_slow = (LockSlow)dlsym(RTLD_NEXT, LOCK_SLOW);
  try_lock_slow = (TryLockSlow)dlsym(RTLD_NEXT, TRY_LOCK_SLOW);
  unlock_slow = (UnlockSlow)dlsym(RTLD_NEXT, UNLOCK_SLOW);
}

SWIFT void locked_slowly(uint32_t thread, SELF void *self) __asm__(LOCK_SLOW);
SWIFT void locked_slowly(uint32_t thread, SELF void *self) {
  if (!lock_slow) find();
  lock_slow(thread, self);
  if (__tsan_acquire) __tsan_acquire(self);
}

SWIFT _Bool tried_slowly(SELF void *self) __asm__(TRY_LOCK_SLOW);
SWIFT _Bool tried_slowly(SELF void *self) {
  if (!try_lock_slow) find();
  _Bool taken = try_lock_slow(self);
  if (taken && __tsan_acquire) __tsan_acquire(self);
  return taken;
}

SWIFT void unlocked_slowly(SELF void *self) __asm__(UNLOCK_SLOW);
SWIFT void unlocked_slowly(SELF void *self) {
  if (__tsan_release) __tsan_release(self);
  if (!unlock_slow) find();
  unlock_slow(self);
}
