"""Part 2: the Nth call fails, once or from then on: on the queue file, the run, the staging side and the socket. The program says what is
wrong and ends, or goes on by itself; then it is run undisturbed, and all has to be well."""

import os
import signal
import subprocess
import time

from checker import Checker
from faults import failing
from lab import Result, Workstation
from nas_side import DRIVERS
from part_kill import KillPart

# What a disk, a quota, a full table of descriptors or a full memory says to each call.
_DISK = ("EIO", "ENOSPC", "EDQUOT")
_ERRORS = {
    # Not `write`: it wakes threads, too, over descriptors that no disk stands behind.
    "pwrite64": _DISK, "fdatasync": _DISK, "fsync": _DISK, "ftruncate": _DISK, "mkdirat": ("EACCES", *_DISK),
    "renameat": ("EACCES", *_DISK), "renameat2": ("EACCES", *_DISK), "unlinkat": ("EACCES", "EIO"), "openat2": ("EMFILE", "EACCES", "ENOMEM", "EIO"),
    "pread64": ("EIO", "ENOMEM"), "getdents64": ("EIO", "ENOMEM"), "sendto": ("ENOMEM", "EIO"), "recvfrom": ("ENOMEM", "EIO"),
    "socket": ("EMFILE", "EACCES", "ENOMEM"), "connect": ("EACCES", "ENOMEM"), "fchmod": ("EACCES", "EIO"), "syncfs": _DISK,
    "utimensat": ("EACCES", "EIO"), "flock": ("EIO", "ENOMEM"),
}  # fmt: skip
_RUNS_PER_CASE = 2


class ErrorsPart(KillPart):
    """A case is a workstation with a few runs; each goes its whole way, with an error at every station."""

    def case(self, case):
        workstation = Workstation(case.folder / "workstation", case.program, case.side.place(f"errors-{case.number}"))
        case.workstations.append(workstation)
        for number in range(_RUNS_PER_CASE):
            _Life(self, case, workstation, f"P{number}").go()
            if case.violations:
                return


class _Life:
    def __init__(self, part, case, workstation, name):
        self.part, self.case, self.workstation, self.random = part, case, workstation, case.random
        self.checker = Checker(workstation, case.side.in_place)
        self.run = workstation.make_run(self.random, name, links=case.side.keeps_links)

    def go(self):
        for command, states in (
            (("enqueue", self.run.argument), ()), (("drain",), ("verified",)), (("cleanup", self.run.argument), ("cleaned",)),
        ):  # fmt: skip
            self._disturbed(*command)
            if self.case.violations or not self._recovered(*command):
                return
            self._tell(self.checker.after_recovery(self.run, *states, told=True) if states else [])
            if self.case.violations:
                return
        folder = self.workstation.folder / f"back-{self.run.relative.split('/')[1]}"
        result = self._disturbed("restore", self.run.argument, str(folder))
        self._tell(self.checker.restored(self.run, folder, complete=False))
        if self.checker.restored(self.run, folder, complete=True) or not folder.exists():
            again = self.workstation.run("restore", self.run.argument, str(folder))
            if again.code != 0:
                self.case.violation(f"not recovered: {again}")
            self._tell(self.checker.restored(self.run, folder, complete=True))
        elif result.code not in (0, 1, 75):
            self.case.violation(f"restored, and then: {result}")

    def _disturbed(self, *command):
        drawn = self.part.profiles[command[0]].draw_call(self.random, list(_ERRORS))
        call, number = drawn
        error = self.random.choice(_ERRORS[call])
        lasting = self.random.random() < 0.4
        trace = self.case.folder / "trace"
        before = failing(call, error, f"{number}{'+' if lasting else ''}", trace)
        result = self._run(before, *command)
        if result.code == 127 and "while loading shared libraries" in result.text:
            # The system's loader reads, too: the program has not begun.
            trace.unlink(missing_ok=True)
            return result
        # Where it made fewer such calls than the time that it was looked at, nothing has failed.
        if trace.exists() and b"(INJECTED)" in trace.read_bytes():
            self.case.trial(call)
            self.case.labels["lasting" if lasting else "once"] += 1
        trace.unlink(missing_ok=True)
        if result.hung:
            self.case.violation(f"HUNG: {' '.join(before)} {result}")
        elif result.code not in (0, 1, 2, 3, 4, 75, 130, 143):
            self.case.violation(f"CRASHED: {' '.join(before)} {result}")
        elif result.code and not result.text.strip():
            self.case.violation(f"nothing was said: {' '.join(before)} {result}")
        self._tell(self.checker.at_any_time())
        return result

    def _run(self, before, *command):
        """To its end; but what waits for a disk to be mended waits for ever, and is told to stop."""
        process, started = self.workstation.start(*command, before=before), time.monotonic()
        for patience, number in ((12, signal.SIGTERM), (15, signal.SIGKILL), (10, None)):
            try:
                out, err = process.communicate(timeout=patience)
                break
            except subprocess.TimeoutExpired:
                if number is not None:
                    self.workstation.kill(process, number)
        hung = process.returncode == -signal.SIGKILL or process.returncode == 137
        out, err = out.decode(errors="replace"), err.decode(errors="replace")
        result = Result(command, None if hung else process.returncode, out, err, time.monotonic() - started, False)
        self.workstation.log.append(f"[{' '.join(before)}] {result}")
        return result

    def _recovered(self, *command):
        """Undisturbed, by itself or by what its hint says."""
        for attempt in range(5):
            result = self.workstation.run(*command)
            if result.hung:
                break
            # A failure that is not tried again by itself asks for an operator's word.
            jobs = (self.checker.queue() or {}).get(os.fsencode(self.run.path), [])
            if jobs and jobs[-1]["state"] == "failed":
                self.workstation.run("retry", self.run.argument)
                self.workstation.run("drain")
            elif result.code == 0:
                return True
        self.case.violation(f"not recovered: {result}")
        return False

    def _tell(self, texts):
        self.case.violation(*[f"after {self.workstation.log[-1].splitlines()[0]}: {text}" for text in texts])
