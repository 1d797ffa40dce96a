#define _GNU_SOURCE
#include "clinux.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <malloc.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int clinux_open_beneath(int dirfd, const char *path, int flags, mode_t mode) {
  struct open_how how;
  memset(&how, 0, sizeof how);
  how.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC);
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  for (;;) {
    long r = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
    if (r >= 0 || (errno != EINTR && errno != EAGAIN)) return (int)r;
  }
}
int clinux_openat(int dirfd, const char *path, int flags, mode_t mode) {
  int r;
  do r = openat(dirfd, path, flags | O_CLOEXEC, mode);
  while (r < 0 && errno == EINTR);
  return r;
}
int clinux_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }
static int set_lock(int fd, int type, int wait) {
  struct flock l;
  memset(&l, 0, sizeof l);
  l.l_type = (short)type;
  l.l_whence = SEEK_SET;
  int r;
  do r = fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
  while (r < 0 && errno == EINTR);
  return r;
}
int clinux_lock_exclusive(int fd, int wait) { return set_lock(fd, F_WRLCK, wait); }
int clinux_lock_byte(int fd, int64_t offset) {
  struct flock l;
  memset(&l, 0, sizeof l);
  l.l_type = F_WRLCK;
  l.l_whence = SEEK_SET;
  l.l_start = offset;
  l.l_len = 1;
  int r;
  do r = fcntl(fd, F_OFD_SETLK, &l);
  while (r < 0 && errno == EINTR);
  return r;
}
int clinux_unlock(int fd) { return set_lock(fd, F_UNLCK, 0); }
int clinux_is_locked(int fd) {
  struct flock l;
  memset(&l, 0, sizeof l);
  l.l_type = F_WRLCK;
  l.l_whence = SEEK_SET;
  if (fcntl(fd, F_OFD_GETLK, &l) < 0) return -1;
  return l.l_type != F_UNLCK;
}
int clinux_set_nonblocking(int fd) {
  int f = fcntl(fd, F_GETFL);
  return f < 0 ? -1 : fcntl(fd, F_SETFL, f | O_NONBLOCK);
}
int clinux_rename_noreplace(int od, const char *op, int nd, const char *np) {
  return renameat2(od, op, nd, np, RENAME_NOREPLACE);
}
int clinux_read_lease(int fd) {
  if (fcntl(fd, F_SETSIG, SIGURG) != 0) return -1;
  if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) return 0;
  return errno == EAGAIN ? 1 : -1;
}
int clinux_lease_is_whole(int fd) { return fcntl(fd, F_GETLEASE) == F_RDLCK; }
void clinux_name_thread(const char *name) {
  char short_name[16];
  snprintf(short_name, sizeof short_name, "%s", name);
  pthread_setname_np(pthread_self(), short_name);
}
int clinux_spawn_close_from(posix_spawn_file_actions_t *actions, int from) {
  return posix_spawn_file_actions_addclosefrom_np(actions, from);
}
int clinux_spawn_chdir(posix_spawn_file_actions_t *actions, const char *path) {
  return posix_spawn_file_actions_addchdir_np(actions, path);
}
int clinux_pipe(int ends[2]) {
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  for (int i = 0; i < 2; i++) {
    if (ends[i] > 2) continue;
    int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, 3);
    if (moved < 0) {
      int code = errno;
      close(ends[0]);
      close(ends[1]);
      errno = code;
      return -1;
    }
    close(ends[i]);
    ends[i] = moved;
  }
  return 0;
}
int clinux_busy_again(int code, int *tries) {
  if (code != ETXTBSY || ++*tries > 50) return 0;
  struct timespec pause = {.tv_nsec = 20000000};
  nanosleep(&pause, NULL);
  return 1;
}
int clinux_spawn_tethered(pid_t *child, const char *path, char *const argv[], char *const envp[], const int streams[3]) {
  sigset_t all, before;
  sigfillset(&all);
  /* The child borrows this thread's memory until it has become the program: no handler may run in it. */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  volatile int failure = 0;
  pid_t parent = getpid();
  pid_t id = vfork();
  if (id == 0) {
    struct sigaction standard;
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL;
    for (int signal = 1; signal < NSIG; signal++) sigaction(signal, &standard, NULL);
    setsid();
    /* Whoever died before this took hold is no longer the parent. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
      failure = ECHILD;
      _exit(127);
    }
    for (int number = 0; number < 3; number++)
      if (dup2(streams[number], number) < 0) {
        failure = errno;
        _exit(127);
      }
#ifdef SYS_close_range
    /* Everything of ours is close-on-exec; this is for what a library opened without. */
    syscall(SYS_close_range, 3u, ~0u, 0u);
#endif
    if (chdir("/") != 0) {
      failure = errno;
      _exit(127);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(path, argv, envp);
    failure = errno;
    _exit(127);
  }
  int code = id < 0 ? errno : failure;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (id > 0 && code != 0)
    while (waitpid(id, NULL, 0) < 0 && errno == EINTR) {
    }
  *child = code == 0 ? id : 0;
  return code;
}
int clinux_pipe_room(int fd, int bytes) { return fcntl(fd, F_SETPIPE_SZ, bytes) < 0 ? -1 : 0; }
int clinux_unread(int fd) {
  int count = 0;
  return ioctl(fd, FIONREAD, &count) < 0 ? -1 : count;
}
int clinux_pidfd(pid_t pid) {
#ifdef SYS_pidfd_open
  return (int)syscall(SYS_pidfd_open, pid, 0);
#else
  errno = ENOSYS;
  return -1;
#endif
}
int clinux_o_path(void) { return O_PATH; }
int clinux_o_tmpfile(void) { return O_TMPFILE; }
int clinux_sync_file_system(int fd) { return syncfs(fd); }

int clinux_poll(struct pollfd *descriptors, unsigned count, int64_t nanoseconds) {
  struct timespec wait = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
  return ppoll(descriptors, count, nanoseconds < 0 ? NULL : &wait, NULL);
}

void clinux_tune_malloc(void) {
#ifdef M_TRIM_THRESHOLD
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
  mallopt(M_ARENA_MAX, 2);
#endif
}

void clinux_return_memory(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}
