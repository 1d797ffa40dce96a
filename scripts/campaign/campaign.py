#!/usr/bin/env python3
"""The fault campaign: the real program against real servers, with faults drawn from a printed seed, and an independent look after each.

    campaign.py [PART…] [--seed N] [--driver D]… [--trials N] [--short] [--jobs N] [--program FILE] [--keep FOLDER]
    campaign.py --seed N --only PART/DRIVER/CASE      repeats one case

Parts: kill, corruption, moves, errors, disks, clocks, crowd, neighbours, durability, network, liars, queuefile, names, stops.
Drivers: sftp-shell, sftp-only, sftp-openssh (by the system's ssh), webdav, s3. Prints `part, driver, trials, violations`;
exits 1 where there is any violation, and keeps the folder of each case that has one. What is promised and checked: Specs/reliability.md.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import part_clocks
import part_corruption
import part_crowd
import part_disks
import part_durability
import part_errors
import part_kill
import part_liars
import part_moves
import part_names
import part_neighbours
import part_network
import part_queuefile
import part_stops
from lab import seeded
from nas_side import DRIVERS, CannotStart, Side

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PARTS = {
    "kill": part_kill.KillPart, "corruption": part_corruption.CorruptionPart, "moves": part_moves.MovesPart, "errors": part_errors.ErrorsPart,
    "disks": part_disks.DisksPart, "clocks": part_clocks.ClocksPart, "crowd": part_crowd.CrowdPart, "neighbours": part_neighbours.NeighboursPart,
    "durability": part_durability.DurabilityPart, "network": part_network.NetworkPart, "liars": part_liars.LiarsPart,
    "queuefile": part_queuefile.QueueFilePart, "names": part_names.NamesPart, "stops": part_stops.StopsPart,
}  # fmt: skip
# Trials of the full campaign by part and of the bounded one; a driver's share of a part's trials.
FULL = {
    "kill": 2000, "corruption": 2000, "moves": 500, "errors": 600, "disks": 24, "clocks": 48, "crowd": 60, "neighbours": 60, "durability": 12,
    "network": 200, "liars": 200, "queuefile": 1100, "names": 500, "stops": 400,
}  # fmt: skip
SHORT = {"kill": 150, "stops": 20}
_STORE_SHARE = {"kill": 0.25, "stops": 0.25}
# Trials of `kill` on a driver in the bounded form, however many the drivers before it made.
_LEAST = 4
_ROOM = 1 << 30


class Tally:
    """What the trials of one part on one driver came to."""

    def __init__(self):
        self.trials, self.violations, self.skipped = 0, 0, ""
        self.labels = collections.Counter()


class Case:
    """One case's surroundings: a folder, a source of random numbers, and where its violations go."""

    def __init__(self, campaign, part, side, number, folder):
        self.campaign, self.side, self.number, self.folder = campaign, side, number, folder
        self.name = f"{part}/{side.driver}/{number}"
        self.random = seeded(campaign.seed, self.name)
        self.program = campaign.program
        self.trials, self.violations, self.labels = 0, [], collections.Counter()
        self.workstations = []

    def violation(self, *texts):
        self.violations += texts

    def trial(self, label, count=1):
        """A trial was made; `label` says what was hit."""
        self.trials += count
        self.labels[label] += count


class Campaign:
    """Runs parts and keeps count."""

    def __init__(self, options, base):
        self.seed, self.jobs, self.program, self.keep = options.seed, options.jobs, options.program, options.keep
        self.base, self.short = base, options.short
        self.tallies = {}
        # By driver: what undisturbed commands do there, for the parts that draw their moments from that.
        self.profiles = {}
        self.stopping = False
        self._lock = threading.Lock()

    def run(self, part_name, side, trials, only=None):
        """Cases of one part on one driver until so many trials were made."""
        tally = self.tallies.setdefault((part_name, side.driver), Tally())
        part = PARTS[part_name](self, side)
        try:
            part.prepare(self._folder(part_name, side, "prepare"))
        except Exception as problem:  # A program that fails undisturbed fails its part, and leaves the other parts and the table to be seen.
            tally.trials, tally.violations = 1, 1
            print(f"VIOLATION in {part_name}/{side.driver}: what has to go before its trials failed: {problem!r}\n{traceback.format_exc()}", flush=True)
            return
        if part.unavailable:
            tally.skipped = part.unavailable
            return
        numbers = iter([only] if only is not None else range(1, 10**9))

        def work():
            while not self.stopping:
                with self._lock:
                    number = None if tally.trials >= trials else next(numbers, None)
                if number is None:
                    return
                self._case(part, part_name, side, number, tally)

        started = time.monotonic()
        jobs = 1 if part_name == "durability" else self.jobs  # A process has one tracer at most.
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            try:
                for future in [pool.submit(work) for _ in range(jobs)]:
                    future.result()
            except BaseException:
                self.stopping = True
                raise
        seconds = time.monotonic() - started
        print(f"  {part_name:<12}{side.driver:<12}{tally.trials} trials in {seconds:.0f} s", flush=True)

    def _folder(self, *words):
        return self.base / "-".join(word if isinstance(word, str) else word.driver for word in words)

    def _case(self, part, part_name, side, number, tally):
        folder = self._folder(part_name, side, str(number))
        case = Case(self, part_name, side, number, folder)
        folder.mkdir()
        try:
            part.case(case)
        except Exception as problem:  # What goes wrong in a case must not end the campaign, and is no silent success either.
            if self.stopping:
                return
            case.violation(f"the case itself broke off: {problem!r}\n{traceback.format_exc()}")
            case.trials = max(case.trials, 1)
        if self.stopping:
            # The servers and folders are being taken away: what this case found says nothing.
            return
        with self._lock:
            tally.trials += case.trials
            tally.violations += len(case.violations)
            tally.labels += case.labels
            if case.violations:
                self._tell(case)
        for workstation in case.workstations:
            workstation.place.remove()
        shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, case):
        kept = self.keep / case.name.replace("/", "-")
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Not shutil's: a case may hold a FIFO.
        subprocess.run(["cp", "-a", str(case.folder), str(kept)], check=False)
        for number, workstation in enumerate(case.workstations):
            (kept / f"commands-{number}.log").write_text("\n\n".join(workstation.log))
            try:
                workstation.place.copy_to(kept / f"nas-{number}")
            except OSError as problem:
                print(f"  the NAS side could not be kept: {problem}")
        print(f"VIOLATION in {case.name}; kept in {kept}", flush=True)
        for text in case.violations[:8]:
            print(f"  {text if len(text) < 700 else text[:350] + ' … ' + text[-350:]}")
        print(f"  again: scripts/campaign/campaign.py --seed {self.seed} --only {case.name}", flush=True)

    def table(self):
        """Prints what came of it; returns whether anything was violated."""
        print(f"\n{'part':<12}{'driver':<12}{'trials':>8}{'violations':>12}")
        for (part, driver), tally in self.tallies.items():
            note = f"  not run: {tally.skipped}" if tally.skipped else ""
            print(f"{part:<12}{driver:<12}{tally.trials:>8}{tally.violations:>12}{note}")
        for part in dict.fromkeys(part for part, _ in self.tallies):
            tallies = [tally for (name, _), tally in self.tallies.items() if name == part]
            print(f"{part:<12}{'all':<12}{sum(t.trials for t in tallies):>8}{sum(t.violations for t in tallies):>12}")
        for part in dict.fromkeys(part for part, _ in self.tallies):
            labels = collections.Counter()
            for (name, _), tally in self.tallies.items():
                if name == part:
                    labels += tally.labels
            if labels:
                print(f"\n{part}: " + ", ".join(f"{label} {count}" for label, count in sorted(labels.items())))
        return any(tally.violations for tally in self.tallies.values())


def shares(part, total, drivers, short=False):
    """How many of a part's trials each driver makes: the object store is slower than the others by far, and gets fewer; another carrier differs in little."""
    weights = {driver: (0.08 if short else _STORE_SHARE.get(part, 0.1)) if driver == "s3" else 0.5 if driver == "sftp-openssh" else 1.0 for driver in drivers}
    whole = sum(weights.values())
    return {driver: max(1, round(total * weight / whole)) for driver, weight in weights.items()}


def roomy_folder():
    """In memory where there is room: what a kill leaves does not depend on the disk, and a sync of this machine's disk takes its time."""
    if "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2 * _ROOM:
        return "/dev/shm"
    return None


def arguments():
    parser = argparse.ArgumentParser(usage=__doc__.strip("\n"))
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--driver", action="append", choices=DRIVERS)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--program", type=pathlib.Path, default=REPOSITORY / ".build" / "release" / "nassync")
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "nassync-campaign")
    parser.add_argument("--only")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.exit(2, f"campaign: there is no part {unknown[0]}; parts are {', '.join(PARTS)}\n")
    if not os.access(options.program, os.X_OK):
        parser.exit(2, f"campaign: there is no program {options.program}; build it: swift build -c release --product nassync\n")
    if shutil.which("strace") is None:
        parser.exit(2, "campaign: there is no strace; scripts/install-dependencies installs it\n")
    options.program = options.program.resolve()
    return options


def plan(options):
    """[(part, driver, trials, the only case)]"""
    if options.only:
        part, driver, number = options.only.split("/")
        return [(part, driver, 1, int(number))]
    amounts = SHORT if options.short else FULL
    jobs = []
    for part in options.parts or [part for part in PARTS if part in amounts]:
        drivers = [driver for driver in options.driver or DRIVERS if driver in PARTS[part].drivers]
        for driver, trials in shares(part, options.trials or amounts.get(part, FULL[part]), drivers, options.short).items():
            jobs.append((part, driver, trials, None))
    # One server after the other.
    return sorted(jobs, key=lambda job: DRIVERS.index(job[1]))


def main():
    options = arguments()
    base = pathlib.Path(tempfile.mkdtemp(prefix="nassync-campaign-", dir=roomy_folder())).resolve()
    campaign = Campaign(options, base)
    # A shell that starts this in the background has it ignore SIGINT, and so would the program that is to be stopped by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    print(f"campaign: seed {options.seed}, {options.program}", flush=True)
    side = None
    try:
        # A case makes more than one trial. What a driver made beyond its share, the next ones of the bounded form need not make.
        surplus = collections.Counter()
        for part, driver, trials, only in plan(options):
            due = trials - surplus[part] if options.short else trials
            if part != "kill" and due <= 0:
                surplus[part] -= trials
                continue
            if side is None or side.driver != driver:
                if side:
                    side.stop()
                side = Side(driver, base / f"server-{driver}")
                side.start()
            campaign.run(part, side, max(_LEAST, due), only)
            surplus[part] += campaign.tallies[part, driver].trials - trials
    except CannotStart as problem:
        print(f"campaign: {problem}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):
        print("campaign: told to stop; this is what was made until now", flush=True)
        campaign.stopping = True
        campaign.table()
        raise
    finally:
        campaign.stopping = True
        if side:
            side.stop()
        shutil.rmtree(base, ignore_errors=True)
    return 1 if campaign.table() else 0


if __name__ == "__main__":
    sys.exit(main())
