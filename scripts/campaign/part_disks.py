"""Part 2, full disks: the disk of the state folder, of the run, or of the NAS is full while the service works, and has room again later: it
goes on without a restart."""

import json
import os
import subprocess
import time

from checker import Checker
from lab import METADATA, Settings, Workstation

_KILO = 1024


class DisksPart:
    """A case is a service on small disks of its own (tmpfs), which only root can mount."""

    drivers = ("sftp-shell", "sftp-only", "webdav")

    def __init__(self, campaign, side):
        self.unavailable = "" if os.geteuid() == 0 else "small disks can be mounted by root alone"

    def prepare(self, folder):
        folder.mkdir()
        if not self.unavailable and not _mount(folder, 64):
            self.unavailable = "no tmpfs can be mounted here"
        elif not self.unavailable:
            _unmount(folder)

    def case(self, case):
        disk = case.folder / "nas"
        disk.mkdir()
        which = case.random.choice(("state", "nas", "run"))
        mounted = []
        try:
            place = case.side.place(f"disks-{case.number}", folder=str(disk) if which == "nas" else None)
            # Fewer steps than it is full for: a full NAS fails no job, however long that takes.
            settings = Settings(retry={"backoff": ["1s"] * 2})
            workstation = Workstation(case.folder / "workstation", case.program, place, settings)
            case.workstations.append(workstation)
            workstation.state.mkdir()
            full = {"nas": disk, "state": workstation.state, "run": workstation.lab}[which]
            if not _mount(full, 3 * _KILO):
                raise RuntimeError("tmpfs")
            mounted.append(full)
            full.chmod(0o777)
            self._go(case, workstation, which, full)
        finally:
            for folder in mounted:
                _unmount(folder)

    @staticmethod
    def _go(case, workstation, which, disk):
        checker = Checker(workstation, case.side.in_place)
        runs = [workstation.make_run(case.random, f"P{number}", files=12, large=False) for number in range(2)]
        queued = runs[:1] if which == "state" else runs
        for run in queued:
            if (result := workstation.run("enqueue", run.argument)).code != 0:
                case.violation(f"could not be prepared: {result}")
                return
        ballast = disk / "ballast"
        _fill(ballast, case.random.choice((0, 1, 4, 12, 40)) * _KILO, disk)
        process = workstation.start("serve")
        try:
            time.sleep(case.random.uniform(1.5, 6))
            left = os.statvfs(disk)
            refused = left.f_bavail * left.f_frsize < 64 * _KILO
            case.violation(*checker.at_any_time())
            if which == "state":
                # A queue that cannot be written takes nothing, and says so.
                result = workstation.run("enqueue", runs[1].argument)
                if result.code not in (0, 1, 75) or (result.code and "space" not in result.text.lower() and "full" not in result.text.lower()):
                    case.violation(f"a full disk and no word of it: {result}")
            if process.poll() is not None:
                case.violation(f"the service ended with {process.returncode} on a full disk: {process.communicate()[1][-300:]!r}")
                return
            ballast.unlink()
            if which == "state" and (result := workstation.run("enqueue", runs[1].argument)).code != 0:
                case.violation(f"there is room again, and: {result}")
            # What could not be written beside the run is written by the next audit.
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                queue = checker.queue() or {}
                jobs = [queue.get(os.fsencode(run.path), [None])[-1] for run in runs]
                if all(job and job["state"] in ("verified", "cleanup_eligible") for job in jobs) and all(map(_has_its_papers, runs)):
                    break
                time.sleep(0.3)
            if process.poll() is not None:
                case.violation(f"the service ended with {process.returncode}")
        finally:
            workstation.kill(process, 15)
            try:
                out, err = process.communicate(timeout=20)
                workstation.log.append(f"serve: {process.returncode}\n{err.decode(errors='replace')}")
            except subprocess.TimeoutExpired:
                workstation.kill(process)
                case.violation("HUNG: the service does not end")
        for run in runs:
            case.violation(*checker.after_recovery(run, "verified", "cleanup_eligible"))
            if not _has_its_papers(run):
                case.violation(f"{run.path} has no manifest, no receipt, or a record that does not know that it was sent")
        if refused:
            case.trial(f"disk of the {which} full")


def _has_its_papers(run):
    """Manifest and receipt lie beside the run, and its record says what became of it."""
    folder = run.path / METADATA
    try:
        record = json.loads((folder / "creation.json").read_text())
    except (OSError, ValueError):
        return False
    return record.get("sync_status") == "synced" and all((folder / name).is_file() for name in ("checksums.sha256", "receipt.json"))


def _mount(folder, kilobytes):
    options = f"size={kilobytes}k,mode=0777"
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode == 0


def _unmount(folder):
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def _fill(ballast, spare, disk):
    """Takes all room but some bytes."""
    state = os.statvfs(disk)
    with open(ballast, "wb") as file:
        file.write(bytes(max(0, state.f_bavail * state.f_frsize - spare)))
