"""Part 3, the server's own faults: sshd dies and comes back, its SFTP process alone dies, the NAS has another address, or shows another host key."""

import os
import pathlib
import signal
import subprocess
import threading
import time

import part_network
from checker import Checker
from lab import Workstation
from metered import metered
from nas_side import Side, descendants, free_port

KINDS = ("server killed", "sftp process killed", "new address", "new host key")
# Slow enough that what happens meanwhile happens in mid of it.
_MBPS = 3


def go(part, case, kind):
    """One case, with a server of its own."""
    server = Side(part.side.driver, case.folder / "server")
    server.start()
    try:
        place = server.place("nas")
        workstation = Workstation(case.folder / "workstation", case.program, place, _settings(), _transport(server))
        case.workstations.append(workstation)
        run = workstation.make_run(case.random, "P", links=True)
        run.put(b"large.bin", case.random.randbytes(700_000))
        if (result := workstation.run("enqueue", run.argument)).code != 0:
            case.violation(f"could not be prepared: {result}")
            return
        _Story(part, case, server, workstation, run).tell(kind)
    finally:
        server.stop()


def _settings():
    return part_network.settings(upload_mbps=_MBPS)


def _transport(side):
    return {**part_network.limits(side.driver), "connections": 1, "port": side.server.port, "known_hosts": str(side.server.known_hosts)}


class _Story:
    def __init__(self, part, case, side, workstation, run):
        self.part, self.case, self.side, self.workstation, self.run = part, case, side, workstation, run
        self.server, self.random = side.server, case.random
        self.checker = Checker(workstation, False)

    def tell(self, kind):
        getattr(self, "_" + kind.replace(" ", "_"))()
        self.case.trial(kind)

    def _server_killed(self):
        """Under a service: what was sent stays, no attempt is used up, and it goes on by itself."""
        began, state = time.monotonic(), {}
        moment, pause = self.random.uniform(0.05, 2.5), self.random.uniform(0.5, 4)

        def kill_and_start():
            time.sleep(moment)
            self.server.stop()
            time.sleep(pause)
            state["attempts"] = (part_network.job_of(self.workstation, self.run) or {"attempts": 0})["attempts"]
            self.server.again()

        result = self._served(kill_and_start)
        if state.get("attempts"):
            self.case.violation(f"BURNT: {state['attempts']} attempts while sshd is gone")
        self._judge(result, began)

    def _new_address(self):
        """The NAS is switched off under a service and comes back elsewhere; somebody changes the configuration and tells the service."""
        began, moment = time.monotonic(), self.random.uniform(0.05, 2.5)

        def move():
            time.sleep(moment)
            self.server.stop()
            time.sleep(self.random.uniform(0, 1.5))
            self.server.again(free_port())
            key = (self.server.keys / "host_key.pub").read_text().split()
            with open(self.server.known_hosts, "a") as file:
                file.write(f"[{self.server.host}]:{self.server.port} {key[0]} {key[1]}\n")
            self.workstation.configure(_settings(), _transport(self.side))
            os.kill(self.process, signal.SIGHUP)

        self._judge(self._served(move), began)

    def _sftp_process_killed(self):
        """sshd lives and goes on answering, its SFTP process does not."""
        victims, over = [], threading.Event()
        moment = self.random.uniform(0, 1.2)

        def kill():
            while not over.is_set() and not victims:
                time.sleep(0.02)
                found = [process for process in descendants(self.server.process_id) if _is_sftp(process)]
                if found:
                    time.sleep(moment)
                    found = [process for process in descendants(self.server.process_id) if _is_sftp(process)]
                for process in found[:1]:
                    try:
                        os.kill(process, signal.SIGKILL)
                        victims.append(process)
                    except ProcessLookupError:
                        pass

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        result = metered(self.workstation, "drain", timeout=60)
        over.set()
        thread.join(timeout=5)
        if result.hung or result.late or result.code not in (0, 75):
            self.case.violation(f"the SFTP process dies, and: {result}")
        if (job := part_network.job_of(self.workstation, self.run))["attempts"] > 1:
            self.case.violation(f"{job['attempts']} attempts for one death: {job['error_message']}")
        if not victims:
            self.case.violation("no SFTP process was found to kill")
        self.case.violation(*self.checker.at_any_time())
        self._busy(result)
        self._arrive()

    def _new_host_key(self):
        """Refused with a sentence, and not a byte is sent, until somebody has taken the new key as the hint says."""
        place = self.workstation.place
        if self.random.random() < 0.5:
            # In mid of it: what is there already stays, and nothing comes to it.
            metered(self.workstation, "drain", timeout=self.random.uniform(0.3, 1.5))
        self.server.stop()
        for name in ("host_key", "host_key.pub"):
            (self.server.keys / name).unlink()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.server.keys / "host_key")], check=True)
        self.server.again()
        time.sleep(0.6)
        before = {name: place.get(name) for name in place.names()}
        result = metered(self.workstation, "drain", timeout=60)
        job = part_network.job_of(self.workstation, self.run)
        if job["state"] == "verified":
            # It had arrived before.
            self.run.add_files(self.random, 3)
            self.workstation.run("enqueue", self.run.argument)
            result = metered(self.workstation, "drain", timeout=60)
            job = part_network.job_of(self.workstation, self.run)
        if result.code != 1 or job["state"] != "failed" or job["error_kind"] != "host_key":
            self.case.violation(f"ANOTHER HOST KEY, and {job['state']} {job['error_kind']}: {result}")
        hint = job["error_hint"] or ""
        if "ssh-keyscan" not in hint or "line " not in hint:
            self.case.violation(f"no word of how a new host key is taken: {hint}")
        if {name: place.get(name) for name in place.names()} != before:
            self.case.violation("ANOTHER HOST KEY, and something changed there")
        check = self.workstation.run("check")
        if check.code == 0:
            self.case.violation(f"another host key, and check is content: {check}")
        # What the hint says: the old line goes, the new key comes in by ssh-keyscan.
        known = self.server.known_hosts
        number = int(hint.partition("remove line ")[2].partition(".")[0])
        lines = known.read_text().splitlines()
        known.write_text("".join(line + "\n" for index, line in enumerate(lines, 1) if index != number))
        command = hint[hint.index("ssh-keyscan") :].partition("\n")[0]
        command = command[: command.index(str(known)) + len(str(known))]
        subprocess.run(["sh", "-c", command], capture_output=True, check=True)
        retried = self.workstation.run("retry", self.run.argument)
        if retried.code != 0:
            self.case.violation(f"the new key is taken, and: {retried}")
        self._arrive()

    # What they have in common

    def _served(self, happens):
        """Runs the service until the run is verified. `happens` meanwhile, in a thread."""
        state = {"looked": 0.0}
        thread = threading.Thread(target=self._guarded, args=(happens,), daemon=True)

        def started(process):
            self.process = process
            thread.start()

        def arrived():
            if thread.is_alive() or time.monotonic() - state["looked"] < 0.3:
                return False
            state["looked"] = time.monotonic()
            job = part_network.job_of(self.workstation, self.run)
            return job is not None and job["state"] in ("verified", "cleanup_eligible")

        result = metered(self.workstation, "serve", timeout=60, until=arrived, started=started)
        thread.join(timeout=30)
        return result

    def _guarded(self, happens):
        try:
            happens()
        except Exception as problem:
            self.case.violation(f"the case itself broke off: {problem!r}")

    def _judge(self, result, began):
        if result.hung or result.code != 0:
            self.case.violation(f"the service: {result}")
        if result.late:
            job = part_network.job_of(self.workstation, self.run)
            self.case.violation(f"the service did not get it there by itself in {time.monotonic() - began:.0f} s: {job} {result.err[-500:]}")
        self._busy(result)
        self._arrive()

    def _busy(self, result):
        allowed = 2 * self.part.cpu + 0.8 + 0.05 * result.seconds
        if result.cpu > allowed:
            self.case.violation(f"BUSY: {result.cpu:.2f} s of the processor in {result.seconds:.1f} s, {allowed:.2f} would do")

    def _arrive(self):
        for _ in range(8):
            result = metered(self.workstation, "drain", timeout=60)
            if result.code != 75:
                break
            time.sleep(0.5)
        if result.code != 0:
            self.case.violation(f"not recovered: {result}")
        self.case.violation(*self.checker.after_recovery(self.run, "verified", "cleanup_eligible"))


def _is_sftp(process):
    """Whether a process below sshd speaks SFTP, whichever program that is."""
    try:
        words = pathlib.Path("/proc", str(process), "cmdline").read_bytes()
    except OSError:
        return False
    return b"sftp" in words
