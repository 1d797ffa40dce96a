#!/usr/bin/env python3
"""The soak: one service, eight instruments, runs arriving all the time, faults all the time; its memory and its open descriptors have to stay flat.

    soak.py [--minutes N] [--seed N] [--driver D]… [--program FILE] [--keep FOLDER]

Prints a line a minute and, at the end, the memory of the first and of the last third, and what was open at rest before the first fault and after the
last. Exits 1 where either grew by more than stated below, or where the independent checker finds anything. Drivers: sftp-shell, sftp-only, webdav; by default the instruments are spread over one server of each.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from campaign import REPOSITORY, roomy_folder
from checker import digest, parse_manifest, tree
from lab import METADATA, Settings
from nas_side import CannotStart, Side

_INSTRUMENTS = 8
_SAMPLE_SECONDS = 3
# Until each worker has had each destination, there is more to open; a soak that is long enough leaves that out.
_WARM_UP_SECONDS = 60
# What may be added to memory between the first third and the last; at rest, nothing may be added to what is open.
_MEMORY_PART, _MEMORY_MORE = 0.10, 8 << 20
# Connections that nobody uses are closed after 30 s.
_REST_SECONDS = 60
_DRIVERS = ("sftp-shell", "sftp-only", "webdav")
_SETTLED = ("verified", "cleanup_eligible", "cleaned")


class Bench:
    """The workstation, its service, and all that was ever put into a run."""

    def __init__(self, base, program, sides, random_):
        self.base, self.program, self.sides, self.random = base, program, sides, random_
        self.lab, self.state = base / "lab", base / "state"
        (base / "equipment").mkdir()
        self.lab.mkdir()
        self.places, self.resting = {}, True
        for number in range(_INSTRUMENTS):
            side = sides[number % len(sides)]
            self.places[f"SOAK_{number:02}"] = side.place(f"soak-{number}")
        self.configure(4)
        # {run path: (instrument, {name: digest})}
        self.runs = {}
        self.log = open(base / "serve.log", "wb")
        self.service = None

    def configure(self, workers):
        """`workers` changes with each reading of the configuration, so that there is something to change."""
        settings = Settings(
            workers=workers, verify={"audit_interval": "10h" if self.resting else "20s"}, retry={"backoff": ["500ms"] * 30},
            cleanup={"enabled": True, "min_verify_passes": 1, "min_age_hours": 0},
        )  # fmt: skip
        _replace(self.base / "nassync.yaml", settings.values)
        for number, (name, place) in enumerate(self.places.items()):
            profile = {
                "id": name, "local_root": str(self.lab), "completeness": {"signal": "sentinel", "file": "done.flag"},
                # One connection each: a pool that may grow takes longer than a soak to reach its size.
                "transport": {**place.transport, "timeout": "15s", "connections": 1},
            }  # fmt: skip
            if number % 2:
                profile["bandwidth"] = {"upload_mbps": 200}
            _replace(self.base / "equipment" / f"{name}.yaml", profile)

    def start(self):
        self.service = subprocess.Popen([str(self.program), "serve"], cwd=self.base, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def arrive(self, name=None):
        """A run of one of the instruments, written file by file, its sentinel last."""
        name = name or self.random.choice(list(self.places))
        path = self.lab / name / f"P{len(self.runs) % 7}" / "Runs" / f"Run_{len(self.runs):06}"
        (path / METADATA).mkdir(parents=True)
        record = {"schema_version": "1.8", "level": "run", "run_kind": "experimental", "sync_status": "pending", "validation_overrides": []}
        (path / METADATA / "creation.json").write_text(json.dumps(record))
        contents = {}
        for number in range(self.random.randrange(2, 12)):
            content = self.random.randbytes(self.random.choice((1, 900, 5000, 60_000, 400_000)))
            file = path / self.random.choice(("", "raw", "tiles/deep")) / f"data {number}.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            contents[str(file.relative_to(path)).encode()] = digest(content)
        (path / "done.flag").write_bytes(b"done")
        contents[b"done.flag"] = digest(b"done")
        self.runs[path] = (name, contents)

    def look(self, path):
        """Violations of the promise for a run: each file is here, or on the NAS as its manifest says; no half run is visible."""
        name, contents = self.runs[path]
        place, remote = self.places[name], str(path.relative_to(self.lab)).encode()
        text, found, listed = place.get(remote + f"/{METADATA}/checksums.sha256".encode()), [], {}
        if text is None and place.is_there(remote):
            text = place.get(remote + f"/{METADATA}/checksums.sha256".encode())
            if text is None:
                return [f"HALF RUN: {path} is published without a manifest"]
        if text is not None:
            listed = parse_manifest(text)
            for file in contents:
                content = place.get(remote + b"/" + file)
                if listed.get(file) != contents[file] or content is None or digest(content) != contents[file]:
                    found.append(f"HALF RUN: {file!r} of {path} is not on the NAS as it was here")
        here = tree(path) or {}
        for file, wanted in contents.items():
            content = here.get(file)
            if not (isinstance(content, bytes) and digest(content) == wanted) and file not in listed:
                found.append(f"LOST: {file!r} of {path}")
        return found

    def rest(self, resting):
        """Without audits there is nothing to do once every run has arrived."""
        self.resting = resting
        self.configure(4)
        self.service.send_signal(signal.SIGHUP)

    def states(self):
        """{run path: state}, by reading beside the service; empty while that is not possible."""
        try:
            connection = sqlite3.connect(f"file:{self.state}/queue.db?mode=ro", uri=True, timeout=5)
        except sqlite3.Error:
            return {}
        try:
            return dict(connection.execute("SELECT run_path, state FROM job"))
        except sqlite3.Error:
            return {}
        finally:
            connection.close()


def _replace(path, value):
    """Written as an editor does it: the service may read at any time."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(value))
    os.replace(new, path)


class Faults(threading.Thread):
    """Something goes wrong every few seconds, and is right again a moment later."""

    def __init__(self, bench):
        super().__init__(daemon=True)
        self.bench, self.random = bench, random.Random(bench.random.random())
        self.done, self.over = collections.Counter(), threading.Event()

    def run(self):
        kinds = [self._cut, self._cut, self._restart, self._hang_up, self._no_permission]
        while not self.over.wait(self.random.uniform(2, 8)):
            kind = self.random.choice(kinds)
            try:
                kind()
            except (OSError, CannotStart) as problem:
                print(f"  a fault could not be made: {kind.__name__[1:]}: {problem}", flush=True)

    def _cut(self):
        """Connections die: the server's processes for them are killed, itself it stays."""
        side = self.random.choice(self.bench.sides)
        for process in _children(side.server.process_id)[: self.random.choice((1, 1, 3, 100))]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.done["connections cut"] += 1

    def _restart(self):
        """The server is away for some seconds."""
        side = self.random.choice(self.bench.sides)
        process = side.server.process_id
        os.kill(process, signal.SIGSTOP)
        children = _children(process)
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.over.wait(self.random.uniform(0.5, 6))
        os.kill(process, signal.SIGCONT)
        self.done["server away"] += 1

    def _hang_up(self):
        self.bench.configure(self.random.randrange(1, 5))
        self.bench.service.send_signal(signal.SIGHUP)
        self.done["SIGHUP"] += 1

    def _no_permission(self):
        """The NAS's root is not the service's for a moment: as far as root is concerned, it is gone."""
        place = self.random.choice(list(self.bench.places.values()))
        os.rename(place.root, place.root + b".away")
        self.over.wait(self.random.uniform(0.3, 2))
        if os.path.lexists(place.root):
            raise OSError(f"the service made {place.root!r}, which was away")
        os.rename(place.root + b".away", place.root)
        self.done["share away"] += 1


def _children(process):
    try:
        with open(f"/proc/{process}/task/{process}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def sample(process):
    """(resident bytes, open descriptors) of a process. Raises OSError where it is gone."""
    with open(f"/proc/{process}/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return resident, len(os.listdir(f"/proc/{process}/fd"))


def kinds(process):
    """({kind of descriptor: how many}, {name of thread: how many}) of a process: sockets by the server's port, files by name."""
    ports, found = {}, collections.Counter()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{process}/net/{table}", encoding="ascii") as file:
            for words in map(str.split, list(file)[1:]):
                ports[words[9]] = int(words[2].rpartition(":")[2], 16)
    for descriptor in os.listdir(f"/proc/{process}/fd"):
        try:
            target = os.readlink(f"/proc/{process}/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith("socket:"):
            inode = target[8:-1]
            found[f"to port {ports[inode]}" if inode in ports else "other socket"] += 1
        elif target.startswith("/"):
            found[os.path.basename(target)] += 1
        else:
            found[target.partition(":[")[0]] += 1
    threads = collections.Counter()
    for thread in os.listdir(f"/proc/{process}/task"):
        try:
            threads[pathlib.Path(f"/proc/{process}/task/{thread}/comm").read_text(encoding="utf-8").strip()] += 1
        except OSError:
            continue
    return dict(found), dict(threads)


def at_rest(bench):
    """({kind of descriptor: how many}, {name of thread: how many}) of a service that has nothing to do, once all that is idle was closed."""
    least, until = None, time.monotonic() + _REST_SECONDS
    while time.monotonic() < until:
        time.sleep(1)
        found = kinds(bench.service.pid)
        if least is None or sum(found[0].values()) <= sum(least[0].values()):
            least = found
    return least


def grew(first, last, before, after):
    """What is too much: from the first third to the last, each [(resident, descriptors)], and at rest before and after."""
    found = []
    memory = [statistics.median(resident for resident, _ in third) for third in (first, last)]
    if memory[1] > memory[0] * (1 + _MEMORY_PART) + _MEMORY_MORE:
        found.append(f"memory grew from {memory[0] / 2**20:.1f} to {memory[1] / 2**20:.1f} MiB")
    if sum(after[0].values()) > sum(before[0].values()):
        found.append(f"more is open at rest: {before[0]} became {after[0]}")
    # The cooperative pool has as many threads as it had to have once.
    own = [{name: count for name, count in threads.items() if name.startswith(("nassync-", "sftp", "shell", "http"))} for _, threads in (before, after)]
    if sum(own[1].values()) > sum(own[0].values()):
        found.append(f"more threads at rest: {own[0]} became {own[1]}")
    return found, memory


def soak(bench, minutes):
    """Returns (samples, violations, faults, what was open at rest before and after)."""
    violations, samples, warm = [], [], False
    for name in bench.places:
        bench.arrive(name)
    bench.start()
    until = time.monotonic() + 60
    while time.monotonic() < until and not all(bench.states().get(str(path)) in _SETTLED for path in bench.runs):
        time.sleep(0.5)
    before = at_rest(bench)
    bench.rest(False)
    faults = Faults(bench)
    faults.start()
    started = time.monotonic()
    next_arrival = next_sample = next_minute = 0
    while (now := time.monotonic() - started) < minutes * 60 and not violations:
        if now >= next_arrival and sum(state not in _SETTLED for state in bench.states().values()) < 60:
            bench.arrive()
            next_arrival = now + bench.random.uniform(0.1, 1.2)
        if now >= next_sample:
            next_sample = now + _SAMPLE_SECONDS
            if now > _WARM_UP_SECONDS and not warm and minutes >= 5:
                samples, warm = [], True
            try:
                samples.append(sample(bench.service.pid))
            except OSError:
                violations.append(f"the service ended with {bench.service.poll()}")
                break
            path = bench.random.choice(list(bench.runs))
            if bench.look(path):
                # The share may just have been away, and a run be published and cleaned between two looks.
                time.sleep(4)
                violations += bench.look(path) and bench.look(path)
        if now >= next_minute:
            next_minute = now + 60
            states = collections.Counter(bench.states().values())
            resident, descriptors = samples[-1]
            print(
                f"  {now / 60:5.1f} min: {len(bench.runs)} runs, {dict(states)}, {resident / 2**20:.1f} MiB, {descriptors} descriptors, {dict(faults.done)}",
                flush=True,
            )  # fmt: skip
            descriptors, threads = kinds(bench.service.pid)
            print(f"           descriptors {descriptors}, threads {threads}", flush=True)
        if bench.service.poll() is not None:
            violations.append(f"the service ended with {bench.service.returncode}")
        time.sleep(0.05)
    faults.over.set()
    faults.join(timeout=30)
    violations += arrived(bench)
    bench.rest(True)
    after = at_rest(bench)
    violations += ended(bench)
    return samples, violations, faults, (before, after)


def arrived(bench):
    """Without faults everything comes to its end."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and bench.service.poll() is None:
        states = bench.states()
        if all(states.get(str(path)) in _SETTLED for path in bench.runs):
            break
        if "failed" in states.values():
            # What does not pass by itself waits for a person, who is here.
            subprocess.run([str(bench.program), "retry", "--all-failed"], cwd=bench.base, capture_output=True, check=False)
        time.sleep(1)
    states = bench.states()
    return [f"STRANDED: {path} is {states.get(str(path), 'unknown')}" for path in bench.runs if states.get(str(path)) not in _SETTLED]


def ended(bench):
    """The service ends when it is told to; then every run is looked at."""
    found = []
    bench.service.send_signal(signal.SIGTERM)
    try:
        if (code := bench.service.wait(timeout=30)) != 0:
            found.append(f"the service ended with {code}")
    except subprocess.TimeoutExpired:
        bench.service.kill()
        found.append("HUNG: the service does not end")
    for path in bench.runs:
        found += bench.look(path)
    return found


def main():
    parser = argparse.ArgumentParser(usage=__doc__.strip("\n"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--driver", action="append", choices=_DRIVERS)
    parser.add_argument("--program", type=pathlib.Path, default=REPOSITORY / ".build" / "release" / "nassync")
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "nassync-soak")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    base = pathlib.Path(tempfile.mkdtemp(prefix="nassync-soak-", dir=roomy_folder())).resolve()
    print(f"soak: seed {options.seed}, {options.minutes:g} minutes, {options.program}", flush=True)
    sides, bench = [], None
    try:
        for driver in options.driver or _DRIVERS:
            sides.append(Side(driver, base / f"server-{driver}"))
            sides[-1].start()
        bench = Bench(base, options.program.resolve(), sides, random.Random(options.seed))
        samples, violations, faults, rests = soak(bench, options.minutes)
    except CannotStart as problem:
        print(f"soak: {problem}", file=sys.stderr)
        return 1
    finally:
        if bench and bench.service and bench.service.poll() is None:
            bench.service.kill()
        for side in sides:
            side.stop()
        if bench:
            bench.log.close()
            options.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(base / "serve.log", options.keep / "serve.log")
        shutil.rmtree(base, ignore_errors=True)
    return report(bench, samples, violations, faults, rests)


def report(bench, samples, violations, faults, rests):
    """Prints the table; returns the exit code."""
    third = len(samples) // 3
    growth = ["too few samples to say anything"]
    if third >= 3:
        growth, memory = grew(samples[:third], samples[-third:], *rests)
        print(f"\n{'':<34}{'first':>10}{'last':>10}{'allowed':>10}")
        allowed = memory[0] * (1 + _MEMORY_PART) + _MEMORY_MORE
        print(f"{'resident memory of a third, MiB':<34}{memory[0] / 2**20:>10.1f}{memory[1] / 2**20:>10.1f}{allowed / 2**20:>10.1f}")
        for what, which in (("descriptors at rest", 0), ("threads at rest", 1)):
            counts = [sum(rest[which].values()) for rest in rests]
            print(f"{what:<34}{counts[0]:>10}{counts[1]:>10}{counts[0] if which == 0 else '':>10}")
    print(f"\n{len(bench.runs)} runs, {len(samples)} samples, faults: {', '.join(f'{name} {count}' for name, count in sorted(faults.done.items()))}")
    for text in (violations + growth)[:20]:
        print(f"VIOLATION: {text}")
    print(f"violations: {len(violations) + len(growth)}")
    return 1 if violations or growth else 0


if __name__ == "__main__":
    sys.exit(main())
