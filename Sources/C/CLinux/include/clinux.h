/* GNU and Linux calls that `import Glibc` hides or that are variadic. */
#ifndef NASSYNC_CLINUX_H
#define NASSYNC_CLINUX_H
#include <poll.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/types.h>

/* openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV: the name cannot leave
   the folder `dirfd`. Returns a descriptor, or -1 with errno set. ENOSYS: a kernel before 5.6. */
int clinux_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* openat(2), which is variadic. */
int clinux_openat(int dirfd, const char *path, int flags, mode_t mode);
/* A non-blocking, close-on-exec eventfd. */
int clinux_eventfd(void);
/* poll(2) with a time-out in nanoseconds, none where it is negative. */
int clinux_poll(struct pollfd *descriptors, unsigned count, int64_t nanoseconds);
/* fcntl(F_OFD_SETLK): a write lock on the whole file, owned by the open file description. wait == 0: EAGAIN when taken. */
int clinux_lock_exclusive(int fd, int wait);
int clinux_unlock(int fd);
/* fcntl(F_OFD_SETLK): a write lock on the byte at an offset, owned by the open file description; EAGAIN when taken. */
int clinux_lock_byte(int fd, int64_t offset);
/* fcntl(F_OFD_GETLK): 1 where another open file description has such a lock, 0 where none has, -1 with errno. Takes nothing. */
int clinux_is_locked(int fd);
/* O_NONBLOCK on. */
int clinux_set_nonblocking(int fd);
/* renameat2(2) with RENAME_NOREPLACE. */
int clinux_rename_noreplace(int olddir, const char *oldpath, int newdir, const char *newpath);
/* syncfs(2): everything written to the file system of `fd` is on its disk. */
int clinux_sync_file_system(int fd);
/* fcntl(F_SETLEASE, F_RDLCK) on a descriptor opened for reading only. Returns 0 with the lease, 1 where somebody has the file open for
   writing, -1 where no lease can be had here. Whoever then opens it for writing waits until the descriptor is closed; the notice of that
   comes as SIGURG, which nobody sees unless they ask for it, not as SIGIO, which would end the process. */
int clinux_read_lease(int fd);
/* 1 while a lease taken so is whole, 0 where somebody waits to write or there is none. */
int clinux_lease_is_whole(int fd);
/* Names the calling thread, at most 15 bytes. */
void clinux_name_thread(const char *name);
/* posix_spawn file actions that glibc declares for GNU programs only: 0 or an error number. */
int clinux_spawn_close_from(posix_spawn_file_actions_t *actions, int from);
int clinux_spawn_chdir(posix_spawn_file_actions_t *actions, const char *path);
/* pipe2(2) with O_CLOEXEC, neither end among the three standard descriptors. */
int clinux_pipe(int ends[2]);
/* Whether a start that failed with this error number is to be tried again at once: somebody has the program's file open for writing
   (ETXTBSY), as while an administrator saves it. Waits 20 ms, and says so 50 times for one counter, which starts at 0. */
int clinux_busy_again(int code, int *tries);
/* Starts a program that ends when the calling thread does, or the whole process: in a session of its own (no terminal), in the folder "/",
   with the three given descriptors, none of them below 3, as its standard ones, nothing else open, all signals at their defaults and
   none blocked. Returns 0 or an error number. */
int clinux_spawn_tethered(pid_t *child, const char *path, char *const argv[], char *const envp[], const int streams[3]);
/* F_SETPIPE_SZ: asks for room in a pipe, in bytes. -1 where the kernel grants no more; the pipe works all the same. */
int clinux_pipe_room(int fd, int bytes);
/* Bytes that were written to a pipe and read by nobody yet; -1 with errno set. */
int clinux_unread(int fd);
/* A close-on-exec descriptor that becomes readable when the child ends (pidfd_open); -1 where the kernel has none. */
int clinux_pidfd(pid_t pid);
/* O_ constants that are not imported. */
int clinux_o_path(void);
int clinux_o_tmpfile(void);
/* Tells malloc to keep what was freed: up to 16 MiB at the end of a heap, and pieces of up to 4 MiB in one. Otherwise a transfer's buffers go back to the
   kernel, and come anew as pages that have to be cleared, hundreds of times a second. And to make two heaps at most: of the eight a core that there may
   be otherwise, a service fills each in its course with what one of its threads needed once, for as long as it runs. */
void clinux_tune_malloc(void);
/* Gives every page that malloc holds and nobody uses back to the kernel. */
void clinux_return_memory(void);
#endif
