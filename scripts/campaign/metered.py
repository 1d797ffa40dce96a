"""Runs the program and says what it took: seconds, processor time, the most memory that it ever had."""

import os
import signal
import subprocess
import time

from lab import Result


class Metered(Result):
    """How one run of the program ended, and what it took. `cpu`: seconds of the processor, `peak`: KiB."""

    cpu, peak, late = 0.0, 0, False


def metered(workstation, *arguments, timeout=90, until=None, grace=15, environment=None, started=None):
    """Runs the program to its end and meters it. `until`: asked again and again; once it is true the program is told to end (SIGTERM) and has
    `grace` seconds for that. After `timeout` seconds it is told to end, too, and `late` is set. What does not end then hangs: `code` is None.
    `started`: told the process's id."""
    base = {key: value for key, value in os.environ.items() if not key.startswith("NASSYNC_") and key != "SSH_AUTH_SOCK"}
    out, err = workstation.folder / "stdout", workstation.folder / "stderr"
    with open(out, "wb") as out_file, open(err, "wb") as err_file:
        process = subprocess.Popen(
            [workstation.program, *arguments], cwd=workstation.folder, env={**base, **(environment or {})}, stdin=subprocess.DEVNULL,
            stdout=out_file, stderr=err_file, start_new_session=True,
        )  # fmt: skip
    if started:
        started(process.pid)
    began, told, late, usage, peak = time.monotonic(), None, False, None, 0
    while True:
        # Not what wait4 says: it counts what this process had when it started the other one.
        peak = max(peak, _most_resident(process.pid))
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        now = time.monotonic()
        if told is None and (now - began > timeout or (until is not None and until())):
            late, told = now - began > timeout, now
            os.kill(process.pid, signal.SIGTERM)
        elif told is not None and now - told > grace:
            workstation.kill(process)
            _, status, usage = os.wait4(process.pid, 0)
            status = None
            break
        time.sleep(0.02)
    code = None if status is None else os.waitstatus_to_exitcode(status)
    # The process is gone; subprocess must not look for its id any more.
    process.returncode = code if code is not None else -signal.SIGKILL
    seconds = (told or time.monotonic()) - began
    result = Metered(arguments, code, out.read_text(errors="replace"), err.read_text(errors="replace"), seconds, False)
    result.cpu, result.peak, result.late = usage.ru_utime + usage.ru_stime, peak, late
    workstation.log.append(f"[{seconds:.1f} s, {result.cpu:.2f} s of the processor, {result.peak} KiB] {result}")
    return result


def _most_resident(pid):
    """The most memory that a process ever had since it became its program, in KiB; 0 where it has ended."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("VmHWM:")), 0)
    except OSError:
        return 0
