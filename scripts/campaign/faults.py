"""Faults from outside: strace stops the program at, or fails, a chosen system call; nothing of the program is built for it."""

import collections
import os

# Per command: how often a single thread of an undisturbed run makes each call. `when=N` of strace counts by thread, too.
_WATCHED = (
    "openat", "openat2", "write", "pwrite64", "fsync", "fdatasync", "syncfs", "renameat", "renameat2", "unlink", "unlinkat", "sendto", "recvfrom",
    "ftruncate", "mkdirat", "fchmod", "utimensat", "linkat", "symlinkat", "pread64", "read", "getdents64", "flock", "connect", "socket", "close",
)  # fmt: skip
# What changes a disk or the other side is worth more trials than what only looks.
_WEIGHTS = {"pwrite64": 4, "sendto": 4, "write": 2, "fdatasync": 3, "fsync": 2, "renameat": 2, "renameat2": 3, "unlinkat": 3, "recvfrom": 3}
_KILLED_AT = tuple(call for call in _WATCHED if call not in ("read", "close", "socket"))


def tracing(calls, *options):
    """The beginning of a command line that is traced for some calls alone."""
    return ["strace", "-f", "-qq", "-e", "signal=none", "-e", f"trace={','.join(calls)}", *options]


def killing(call, number):
    """... that is killed on entering a call the `number`-th time in a thread."""
    return tracing([call], "-o", os.devnull, "-e", f"inject={call}:signal=SIGKILL:when={number}")


def failing(call, error, when, trace=os.devnull):
    """... in which a call fails. `when`: `3` the third time in a thread, `3+` from then on. `trace`: where it is written what was hit."""
    # All other calls run at full speed. (Under --seccomp-bpf, strace 6.1 injects errors and silently leaves out signals: not for `killing`.)
    return tracing([call], "--seccomp-bpf", "-o", str(trace), "-e", f"inject={call}:error={error}:when={when}")


class Profile:
    """What an undisturbed run of a command does: system calls of its busiest thread, and seconds."""

    def __init__(self, calls, seconds):
        self.calls, self.seconds = calls, seconds

    @classmethod
    def of(cls, workstation, *arguments):
        """Runs the command under strace. Raises RuntimeError where it does not end well."""
        trace = workstation.folder / "trace"
        result = workstation.run(*arguments, before=tracing(_WATCHED, "-o", str(trace)))
        if result.code != 0:
            raise RuntimeError(f"an undisturbed run under strace failed: {result}")
        counts = collections.Counter()
        for line in trace.read_text(errors="replace").splitlines():
            thread, _, rest = line.partition(" ")
            name = rest.strip().partition("(")[0]
            if name in _WATCHED:
                counts[name, thread] += 1
        trace.unlink()
        calls = {}
        for (name, _), count in counts.items():
            calls[name] = max(calls.get(name, 0), count)
        return cls(calls, result.seconds)

    def draw_kill(self, random_):
        """(call, number) at which to kill."""
        calls = [call for call in _KILLED_AT if call in self.calls]
        call = random_.choices(calls, [_WEIGHTS.get(call, 1) for call in calls])[0]
        return call, random_.randint(1, self.calls[call])

    def draw_call(self, random_, calls):
        """(call, number) of some calls; None where the command makes none of them."""
        calls = [call for call in calls if call in self.calls]
        if not calls:
            return None
        call = random_.choice(calls)
        return call, random_.randint(1, self.calls[call])
