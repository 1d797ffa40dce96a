"""Part 5: an SFTP server that lies, in each way of `sftp_lies.py`, from the start or about a run that lies there already.

Nothing is removed here that its disk, looked at past the protocol, does not hold; every command ends in time, with a sentence, without a crash
and without much memory; nothing is written outside the root; and once the server is honest the run gets there.
"""

import json
import os
import pathlib
import random
import shutil
import time

import sftp_lies
from checker import Checker, tree
from lab import Settings, Workstation
from metered import metered
from nas_side import LyingSide
from part_network import job_of

_FOREVER = 1 << 60
# Seconds. Each request that is not answered costs a deadline; a job has three attempts.
_LIMIT = 60
_MEMORY = 150 * 1024
_CODES = {
    "drain": (0, 1, 3, 75), "verify": (0, 1, 2, 4, 75), "cleanup": (0, 1, 3, 4, 75), "serve": (0,), "check": (0, 1, 2, 75), "restore": (0, 1, 2, 4, 75),
}  # fmt: skip
_KINDS = {
    "network", "timeout", "auth", "host_key", "permission", "remote_full", "remote_conflict", "hash_mismatch", "blocked", "local_changed",
    "local_vanished", "remote_corrupted", "misconfigured", "protocol", "local",
}  # fmt: skip


class LiarsPart:
    """A case is one lie, with a server of its own."""

    drivers = ("sftp-shell", "sftp-only")
    unavailable = ""

    def __init__(self, campaign, side):
        lies = list(sftp_lies.LIES) + list(sftp_lies.PLANTED)
        if side.driver == "sftp-shell":
            lies += sftp_lies.HASH_LIES
        # Each of them once before any of them twice, in an order of the seed's.
        random.Random(f"{campaign.seed}/liars").shuffle(lies)
        self.lies = lies

    def prepare(self, folder):
        """Nothing to learn beforehand."""

    def case(self, case):
        side = LyingSide(case.side.driver, case.folder / "server")
        side.start()
        try:
            _Lied(case, side, self.lies[(case.number - 1) % len(self.lies)]).go()
        finally:
            side.stop()


class _Lied:
    def __init__(self, case, side, lie):
        self.case, self.side, self.lie, self.random = case, side, lie, case.random
        self.place = side.place("nas")
        cleanup = {"enabled": True, "min_verify_passes": 1, "min_age_hours": 0}
        settings = Settings(workers=1, retry={"backoff": ["300ms", "300ms"]}, cleanup=cleanup)
        limits = {"connect_timeout": "4s", "timeout": "3s", "keepalive": "2s"}
        self.workstation = Workstation(case.folder / "workstation", case.program, self.place, settings, limits)
        case.workstations.append(self.workstation)
        self.checker = Checker(self.workstation, False)
        self.run = self.workstation.make_run(self.random, "P", links=True)
        self.outside = case.folder / "server" / "nas" / "outside"
        self.outside.mkdir()
        (self.outside / "theirs").write_bytes(b"not ours")
        self.told = f"{lie} ({side.driver})"

    def go(self):
        sent_before = self.lie not in sftp_lies.PLANTED and self.random.random() < 0.4
        commands = [("drain",), ("verify", "--all"), ("cleanup", self.run.argument), ("serve",)]
        if (result := self.workstation.run("enqueue", self.run.argument)).code != 0:
            self._tell(f"could not be prepared: {result}")
            return
        if sent_before:
            if (result := self.workstation.run("drain")).code != 0:
                self._tell(f"could not be prepared: {result}")
                return
            commands = self.random.sample([("verify", "--all"), ("cleanup", self.run.argument), ("serve",), ("restore", self.run.argument, "back"), ("check",)], 4)
        self._lie()
        for command in commands:
            result = self._lied_to(*command)
            legal = self.lie in sftp_lies.LIES and sftp_lies.LIES[self.lie].legal
            if legal and command[0] == "drain" and result.code != 0:
                self._tell(f"an honest server may do that, and: {result}")
        self._outside_is_whole()
        told = (self.side.server.lies / "told").exists() or not sftp_lies.LIES.get(self.lie) or not sftp_lies.LIES[self.lie].kinds
        self._be_honest()
        # A lie that nobody asked for is no trial.
        if told:
            self.case.trial("published before" if sent_before else "from the start")
        else:
            self.case.labels["(never asked for it)"] += 1
        self._arrive()

    # Lying

    def _lie(self):
        if self.lie in sftp_lies.PLANTED:
            self._plant()
            return
        lie = {
            "name": self.lie, "skip": self.random.choice((0, 0, 0, 1, 3, 10)), "times": self.random.choice((_FOREVER, _FOREVER, 1, 3)),
            "probes": self.random.random() < (0.15 if self.lie in sftp_lies.HASH_LIES else 0.25),
        }  # fmt: skip
        file = self.side.server.lies / ("bin/hash.json" if self.lie in sftp_lies.HASH_LIES else "lie.json")
        file.write_text(json.dumps(lie))
        self.told += f" {lie}"
        self.workstation.log.append(f"the lie: {lie}")

    def _be_honest(self):
        for name in ("bin/hash.json", "lie.json"):
            (self.side.server.lies / name).unlink(missing_ok=True)
        if self.lie in sftp_lies.PLANTED:
            shutil.rmtree(self.parent / "was staging", ignore_errors=True)
            for path in (self.staging, self.final):
                if path.is_symlink():
                    path.unlink()
                elif (path / "theirs").exists() or path == self.staging:
                    shutil.rmtree(path, ignore_errors=True)

    def _plant(self):
        job = job_of(self.workstation, self.run)["id"]
        self.final = pathlib.Path(os.fsdecode(os.path.join(self.place.root, self.run.remote)))
        self.parent = self.final.parent
        self.staging = self.parent / f".nassync-{job}"
        self.parent.mkdir(parents=True)
        if self.lie == "staging is a link":
            self.staging.symlink_to(self.outside)
        elif self.lie == "a neighbour's run":
            self.final.mkdir()
            (self.final / "theirs").write_bytes(b"not ours")
            for name in list(self.run.files)[:2]:
                path = pathlib.Path(os.fsdecode(os.path.join(os.fsencode(self.final), name)))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"not ours")
            (self.side.server.lies / "lie.json").write_text(json.dumps({"name": "rename overwrites"}))
        else:
            self.staging.mkdir()
            for name in self.run.files:
                folder, _, leaf = os.fsdecode(name).partition("/")
                if self.lie == "a folder in staging is a link" and leaf and not (self.staging / folder).is_symlink():
                    (self.staging / folder).symlink_to(self.outside)
                elif self.lie == "a file in staging is a link" and not leaf:
                    (self.staging / folder).symlink_to(self.outside / "theirs")

    # Judging

    def _lied_to(self, *command):
        stop = time.monotonic() + 5
        until = (lambda: time.monotonic() > stop) if command[0] == "serve" else None
        result = metered(self.workstation, *command, timeout=_LIMIT, until=until)
        what = f"{self.told}: {command[0]}"
        if result.hung or result.late:
            self._tell(f"HUNG: {what}: {result}")
        elif result.code not in _CODES[command[0]]:
            self._tell(f"CRASHED: {what}: {result}")
        elif result.code and not result.text.strip():
            self._tell(f"nothing was said: {what}: {result}")
        if result.peak > _MEMORY:
            self._tell(f"MEMORY: {what}: {result.peak // 1024} MiB")
        if "\x1b" in result.text:
            self._tell(f"what the server says reached the terminal as it is: {what}")
        if command[0] == "restore" and (self.workstation.folder / "back").exists():
            self._tell(*(f"{what}: {text}" for text in self.checker.restored(self.run, self.workstation.folder / "back", complete=result.code == 0)))
            shutil.rmtree(self.workstation.folder / "back")
        job = job_of(self.workstation, self.run)
        if command[0] == "drain" and result.code and (job["error_kind"] not in _KINDS or not job["error_message"] or not job["error_hint"]):
            self._tell(f"no sentence: {what}: {job}")
        if self.lie != "a neighbour's run":
            self._tell(*(f"{what}: {text}" for text in self.checker.at_any_time()))
        return result

    def _outside_is_whole(self):
        found = tree(self.outside)
        if found != {b"theirs": b"not ours"}:
            self._tell(f"OUTSIDE the root: {self.told}: {sorted(found)[:4]}")
        if self.lie == "a neighbour's run":
            theirs = [content for content in (tree(self.final) or {}).values() if isinstance(content, bytes)]
            if not theirs or set(theirs) != {b"not ours"}:
                self._tell(f"OVERWRITTEN: {self.told}: {sorted(tree(self.final) or {})[:4]}")

    def _arrive(self):
        """The server is honest again; a failed job wants one word of an operator's."""
        states = ("verified", "cleanup_eligible", "cleaned")
        for _ in range(6):
            if (job_of(self.workstation, self.run) or {"state": ""})["state"] == "failed":
                self.workstation.run("retry", self.run.argument)
            result = metered(self.workstation, "drain", timeout=_LIMIT)
            if result.code == 0 and job_of(self.workstation, self.run)["state"] in states:
                break
            time.sleep(0.4)
        else:
            self._tell(f"not recovered: {self.told}: {result}")
        found = self.checker.after_recovery(self.run, *states)
        if self.lie == "remove not done":
            # What nobody removed may lie there still, under a name of the program's own.
            found = [text for text in found if "left behind on the NAS" not in text]
        self._tell(*(f"{self.told}: once honest: {text}" for text in found))

    def _tell(self, *texts):
        self.case.violation(*texts)
