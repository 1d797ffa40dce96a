"""What the NAS is told to write to its disk before anybody counts on it: every file before the run gets its name. The server is watched, since
no power goes here. Only where each file is flushed by itself: where one command flushes them all, its `sync` says so, and is looked for."""

import os
import re
import subprocess
import time

from checker import Checker
from lab import Workstation


class DurabilityPart:
    """A case is a few runs sent to a watched server."""

    drivers = ("sftp-shell", "sftp-only")

    def __init__(self, campaign, side):
        self.side = side
        self.unavailable = "" if os.geteuid() == 0 else "a server of another user's can be watched by root alone"

    def prepare(self, folder):
        """Nothing to learn beforehand."""

    def case(self, case):
        workstation = Workstation(case.folder / "workstation", case.program, case.side.place(f"durability-{case.number}"))
        case.workstations.append(workstation)
        checker = Checker(workstation, case.side.in_place)
        trace = case.folder / "server-trace"
        calls = "fsync,fdatasync,sync,syncfs,rename,renameat,renameat2"
        watcher = subprocess.Popen(
            ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", "signal=none", "-e", f"trace={calls}", "-o", str(trace), "-p", str(side_pid(case))],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            time.sleep(0.5)
            for number in range(2):
                run = workstation.make_run(case.random, f"P{number}", files=10)
                workstation.run("enqueue", run.argument)
                result = workstation.run("drain")
                if result.code != 0:
                    case.violation(f"drain: {result}")
                case.violation(*checker.after_recovery(run, "verified"))
                case.trial("run")
        finally:
            watcher.terminate()
            watcher.wait(timeout=10)
        steps = trace.read_text(errors="replace").splitlines()
        for run in workstation.runs:
            case.violation(*self._violations(run, steps))

    @staticmethod
    def _violations(run, steps):
        """The run's files, in the order of what the server did."""
        leaf = run.relative.rpartition("/")[2]
        flushed, whole = set(), False
        parent = re.escape(run.relative.rpartition("/")[0].encode().decode("unicode_escape", errors="replace"))
        for step in steps:
            if re.search(r"\b(sync|syncfs)\(", step):
                whole = True
            if found := re.search(rf"\bf(?:data)?sync\(\d+<[^>]*{parent}/\.nassync-[^/>]*/([^>]*)>", step):
                flushed.add(_decoded(found[1]))
            if re.search(rf"\brename\w*\(.*{parent}/\.nassync-.*{parent}/{re.escape(leaf)}\"", step):
                if whole:
                    return []
                missed = [name for name in run.files if name not in flushed]
                return [f"{run.relative}: {name!r} was published before the NAS was told to write it to its disk" for name in missed[:3]]
        return [f"{run.relative}: the server was not seen to publish it"]


def side_pid(case):
    return case.side.server.process_id


def _decoded(text):
    """A name as strace -y prints it: bytes beyond ASCII as octal or as they are."""
    raw = text.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\([0-7]{1,3})", lambda found: bytes([int(found[1], 8)]), raw)
