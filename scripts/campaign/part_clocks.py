"""Part 8: the clock on the wall is wrong, jumps, or is set while a run is sent. Nothing is removed early, and nothing waits for ever."""

import os
import shutil
import subprocess
import time

from checker import Checker
from lab import Settings, Workstation

_HOUR, _YEAR = 3600, 365 * 86_400
# Seconds by which the clock is off; or a moment at which it stands, with a time zone whose hour is cut out or comes twice then.
_OFFSETS = {"+1 h": _HOUR, "-1 h": -_HOUR, "+10 years": 10 * _YEAR, "-10 years": -10 * _YEAR}
_MOMENTS = {
    "1970": ("1970-01-01 12:00:00", "UTC"), "spring forward": ("2026-03-29 01:59:58", "Europe/Vienna"),
    "fall back": ("2026-10-25 02:59:58", "Europe/Vienna"),
}  # fmt: skip


_TIMERS = """#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
int timerfd_settime(int timer, int flags, const struct itimerspec *value, struct itimerspec *old) {
  return (int)syscall(SYS_timerfd_settime, timer, flags, value, old);
}
"""


class ClocksPart:
    """A case is one kind of wrong clock, over one run's whole way."""

    # Certificates and signatures have their own opinion on the year; what is looked at here is the program's.
    drivers = ("sftp-shell", "sftp-only")

    def __init__(self, campaign, side):
        self.unavailable = "" if shutil.which("faketime") else "there is no faketime; scripts/install-dependencies installs it"

    def prepare(self, folder):
        """libfaketime shifts timers of the monotonic clock as well, so that a sleep would take hours or be refused: they go to the kernel."""
        folder.mkdir()
        source, self.shim = folder / "timers.c", folder / "timers.so"
        source.write_text(_TIMERS)
        compiler = shutil.which("clang") or shutil.which("cc")
        if compiler is None:
            self.unavailable = "there is no C compiler"
        elif subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(self.shim), str(source)]).returncode != 0:
            self.unavailable = "the timers' shim cannot be built"

    def case(self, case):
        kinds = [*_OFFSETS, *_MOMENTS, "step"]
        _Case(self, case, kinds[case.number % len(kinds)]).go()


class _Case:
    def __init__(self, part, case, kind):
        self.part, self.case, self.kind, self.random = part, case, kind, case.random
        cleanup = {"min_verify_passes": 2, "min_age_hours": 24}
        self.workstation = Workstation(
            case.folder / "workstation", case.program, case.side.place(f"clocks-{case.number}"), Settings(cleanup=cleanup)
        )
        case.workstations.append(self.workstation)
        self.checker = Checker(self.workstation, case.side.in_place)

    def go(self):
        for step in (self._early, self._stuck, self._sent_in_between):
            step()
            if self.case.violations:
                return

    def clock(self):
        """(command line before the program, environment) under which its clock on the wall is wrong; the monotonic one, as on a real machine,
        is not."""
        # Not by LD_PRELOAD alone: without the wrapper's shared memory, libfaketime 0.9.10 loses a Swift program its arguments.
        # It fakes the times of files, too, and the kernel's timers on the clock that is right: neither is wanted.
        before, environment = ["faketime", "-m", "--exclude-monotonic", "-f"], {"FAKETIME_NO_CACHE": "1", "NO_FAKE_STAT": "1"}
        after = ["sh", "-c", 'LD_PRELOAD="$0:$LD_PRELOAD" exec "$@"', str(self.part.shim)]
        if self.kind in _OFFSETS:
            return [*before, f"{_OFFSETS[self.kind]:+d}", *after], environment
        if self.kind == "step":
            return [*before, "+0", "env", "-u", "FAKETIME", f"FAKETIME_TIMESTAMP_FILE={self.workstation.folder / 'clock'}", *after], environment
        moment, zone = _MOMENTS[self.kind]
        return [*before, f"@{moment}", *after], environment | {"TZ": zone}

    def _set(self, seconds):
        """What the programs of a stepping clock see from now on."""
        path = self.workstation.folder / "clock"
        path.with_suffix(".new").write_text(f"{seconds:+d}\n")
        os.replace(path.with_suffix(".new"), path)

    def _run(self, *command, wrong=True, expect=(0,)):
        before, environment = self.clock() if wrong else ((), None)
        result = self.workstation.run(*command, before=before, environment=environment)
        if result.hung or result.code not in expect:
            self.case.violation(f"{self.kind}: {result}")
        return result

    def _early(self):
        """Verified just now; whatever the clock says, no day has passed."""
        self._set(0)
        run = self.workstation.make_run(self.random, "EARLY", files=6)
        self._run("enqueue", run.argument, wrong=False)
        self._run("drain", wrong=False)
        time.sleep(1.1)
        for seconds in (0, _YEAR, -_YEAR, 2 * 86_400):
            self._set(seconds)
            # Twice, since a look at the NAS may count as a verification.
            for _ in range(2):
                self._run("cleanup", run.argument, expect=(1, 75))
                self.case.violation(*self.checker.after_recovery(run, "verified", "cleanup_eligible"))
            if self.kind != "step":
                break
        self.case.trial(f"{self.kind}: cleanup")

    def _stuck(self):
        """A failed attempt under the wrong clock sets a time for the next one, and an outage too; then the clock is right again."""
        self._set(-_YEAR if self.random.random() < 0.5 else _YEAR)
        run = self.workstation.make_run(self.random, "STUCK", files=6)
        self._run("enqueue", run.argument, wrong=self.random.random() < 0.5)
        if self.random.random() < 0.5:
            # Nobody answers there.
            self.workstation.configure(Settings(), {"port": 1, "connect_timeout": "1s"})
        else:
            # Not by its folder's mode: root reads everything.
            self.workstation.configure(Settings(), {"remote_root": self.workstation.place.transport["remote_root"] + "/nowhere"})
        self._run("drain", expect=(0, 1, 75))
        self.workstation.configure(Settings())
        self._set(0)
        result = self._run("drain", wrong=False, expect=(0, 1, 75))
        jobs = (self.checker.queue() or {}).get(os.fsencode(run.path), [])
        if jobs and jobs[-1]["state"] == "failed":
            # What is not tried again by itself: a wrong configuration.
            self._run("retry", run.argument, wrong=False)
        deadline = time.monotonic() + 12
        while result.code == 75 and time.monotonic() < deadline:
            time.sleep(0.5)
            result = self._run("drain", wrong=False, expect=(0, 1, 75))
        self._run("drain", wrong=False)
        self.case.violation(*[f"{self.kind}: {text}" for text in self.checker.after_recovery(run, "verified", "cleanup_eligible")])
        self.case.trial(f"{self.kind}: schedule")

    def _sent_in_between(self):
        """Enqueued, sent and verified under the wrong clock, which may be set in mid-transfer."""
        self.workstation.configure(Settings(upload_mbps=16))
        run = self.workstation.make_run(self.random, "SENT", files=8)
        for number in range(4):
            run.put(f"big {number}.dat".encode(), self.random.randbytes(500_000))
        self._set(0)
        self._run("enqueue", run.argument)
        before, environment = self.clock()
        process = self.workstation.start("drain", before=before, environment=environment)
        time.sleep(self.random.uniform(0.2, 0.8))
        self._set(self.random.choice((-10 * _YEAR, -_HOUR, _HOUR, 10 * _YEAR)))
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.workstation.kill(process)
            out, err = process.communicate()
            self.case.violation(f"{self.kind}: HUNG: drain: {err[-300:]!r}")
            return
        if process.returncode != 0:
            self.case.violation(f"{self.kind}: drain ended with {process.returncode}: {(out + err)[-600:]!r}")
        self.case.violation(*[f"{self.kind}: {text}" for text in self.checker.after_recovery(run, "verified", "cleanup_eligible")])
        self.case.trial(f"{self.kind}: transfer")
