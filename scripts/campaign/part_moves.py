"""Part 6: the run moves under the program while it is hashed, sent, verified, published or deleted. No proof may be made of bytes that were not
sent, and nothing that somebody put there meanwhile may be gone: each content that the other program left has to be here or, listed, there."""

import os
import threading
import time

from checker import Checker, digest, history_violations, parse_manifest, tree
from faults import tracing
from lab import METADATA, Workstation, seeded
from nas_side import DRIVERS

_RUNS_PER_CASE = 4
# Calls that are slowed down, so that there is more time between two of them; microseconds.
_SLOWED = {"drain": ("pread64,sendto,openat2", 1500), "cleanup": ("openat2,renameat2,unlinkat,newfstatat", 2500)}


class MovesPart:
    """A case is a workstation with a few runs, each of which moves during one command."""

    drivers = DRIVERS
    unavailable = ""

    def __init__(self, campaign, side):
        self.campaign, self.side = campaign, side
        self.seconds = {}

    def prepare(self, folder):
        """How long the commands take, plain and slowed."""
        workstation = Workstation(folder, self.campaign.program, self.side.place(folder.name))
        random_ = seeded("moves")
        for slow in (False, True):
            run = workstation.make_run(random_, f"S{slow}", files=15)
            workstation.run("enqueue", run.argument)
            for command in (("drain",), ("cleanup", run.argument)):
                result = workstation.run(*command, before=slowed(command[0]) if slow else ())
                if result.code != 0:
                    raise RuntimeError(f"undisturbed: {result}")
                self.seconds[command[0], slow] = result.seconds
        workstation.place.remove()

    def case(self, case):
        workstation = Workstation(case.folder / "workstation", case.program, case.side.place(f"moves-{case.number}"))
        case.workstations.append(workstation)
        for number in range(_RUNS_PER_CASE):
            _Race(self, case, workstation, f"P{number}").go()
            if case.violations:
                return


def slowed(command):
    calls, microseconds = _SLOWED[command]
    return tracing([calls], "-o", os.devnull, "-e", f"inject={calls}:delay_enter={microseconds}")


class _Mover:
    """The other program. Knows every content that it left: `alive`, with the name for the report; and `versions`, all that ever lay there."""

    def __init__(self, run, random_, moves, span, trigger=None):
        self.run, self.random = run, random_
        self.root = os.fsencode(run.path)
        self.elsewhere = os.fsencode(run.workstation.folder) + b"/elsewhere-" + os.path.basename(os.path.dirname(os.path.dirname(self.root)))
        os.mkdir(self.elsewhere)
        self.alive = {digest(content): name for name, content in run.files.items()}
        self.versions = {name: {digest(content)} for name, content in run.files.items()}
        self.done = []
        names = [name for name in run.files if not name.startswith(METADATA.encode())]
        self._names = random_.sample(names, min(moves, len(names)))
        self._moments = sorted(random_.uniform(0, span) for _ in self._names)
        self._kinds = [random_.choice([name for name in dir(self) if name.startswith("_do_")]) for _ in self._names]
        # A path whose appearance starts the clock.
        self._trigger = trigger
        # When its first move was made.
        self.first = None
        self._thread = threading.Thread(target=self._go, daemon=True)

    def start(self):
        self._thread.start()

    def join(self):
        """Returns whether it ended: an open that waits for a lease for ever would be a fault."""
        self._thread.join(timeout=60)
        return not self._thread.is_alive()

    def _go(self):
        started = time.monotonic()
        while self._trigger and not os.path.exists(self._trigger) and time.monotonic() < started + 5:
            time.sleep(0.001)
        started = time.monotonic()
        for name, moment, kind in zip(self._names, self._moments, self._kinds):
            time.sleep(max(0, started + moment - time.monotonic()))
            try:
                getattr(self, kind)(name, self.root + b"/" + name)
                self.done.append(kind.removeprefix("_do_"))
                self.first = self.first or time.monotonic()
            except FileNotFoundError:
                # It was removed before: this move came too late.
                self.done.append("too late")

    def _lives(self, name, content):
        self.alive[digest(content)] = name
        self.versions.setdefault(name, set()).add(digest(content))

    def _dies(self, content):
        """Its own program destroyed it."""
        self.alive.pop(digest(content), None)

    def _fresh(self, count):
        return self.random.randbytes(max(count, 24))

    def _do_appended(self, name, path):
        more = self._fresh(200)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            # From its opening on it may be written to, and the writer counts on it.
            os.write(descriptor, more)
        finally:
            os.close(descriptor)
        self._dies(self.run.files[name])
        self._lives(name, self.run.files[name] + more)

    def _do_truncated(self, name, path):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, len(self.run.files[name]) // 2)
        finally:
            os.close(descriptor)
        self._dies(self.run.files[name])
        self._lives(name, self.run.files[name][: len(self.run.files[name]) // 2])

    def _do_overwritten_in_place(self, name, path):
        """The same size, and its time put back: only the change time tells."""
        new = self._fresh(len(self.run.files[name]))
        descriptor = os.open(path, os.O_WRONLY)
        try:
            before = os.fstat(descriptor)
            os.write(descriptor, new)
            os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(descriptor)
        self._dies(self.run.files[name])
        self._lives(name, new)

    def _do_replaced(self, name, path):
        new = self._fresh(len(self.run.files[name]))
        temporary = self.elsewhere + b"/new"
        with open(temporary, "wb") as file:
            file.write(new)
        os.lstat(path)
        os.rename(temporary, path)
        self._dies(self.run.files[name])
        self._lives(name, new)

    def _do_recreated_alike(self, name, path):
        """Another file of the same size and time under the name."""
        before, new = os.lstat(path), self._fresh(len(self.run.files[name]))
        new = new[: before.st_size] if before.st_size >= 24 else new
        temporary = self.elsewhere + b"/alike"
        with open(temporary, "wb") as file:
            file.write(new)
        os.utime(temporary, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.unlink(path)
        os.rename(temporary, path)
        self._dies(self.run.files[name])
        self._lives(name, new)

    def _do_renamed(self, name, path):
        new = name + b".renamed.dat"
        os.rename(path, self.root + b"/" + new)
        self.versions[new] = {digest(self.run.files[name])}

    def _do_moved_away(self, name, path):
        os.rename(path, self.elsewhere + b"/moved-" + os.path.basename(path))

    def _do_turned_into_a_link(self, name, path):
        target = self.elsewhere + b"/target-" + os.path.basename(path)
        os.rename(path, target)
        os.symlink(target, path)

    def _do_turned_into_a_fifo(self, name, path):
        os.unlink(path)
        os.mkfifo(path)
        self._dies(self.run.files[name])

    def _do_folder_moved_away(self, name, path):
        folder = os.path.dirname(path)
        if folder == self.root:
            return self._do_moved_away(name, path)
        os.rename(folder, self.elsewhere + b"/folder-" + os.path.basename(folder))

    def _do_added(self, name, path):
        """A file that nobody has seen yet."""
        new, content = name + b".late.dat", self._fresh(300)
        descriptor = os.open(self.root + b"/" + new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        self._lives(new, content)


class _Race:
    def __init__(self, part, case, workstation, name):
        self.part, self.case, self.workstation = part, case, workstation
        self.random = case.random
        self.checker = Checker(workstation, case.side.in_place)
        self.run = workstation.make_run(self.random, name, files=self.random.randrange(8, 20), links=False)

    def go(self):
        command = self.random.choice(("drain", "drain", "cleanup"))
        self.workstation.run("enqueue", self.run.argument)
        if command == "cleanup":
            result = self.workstation.run("drain")
            # The runs of the races before are in this queue, too, and may stay as they are.
            if result.hung:
                self.case.violation(f"HUNG: {result}")
                return
        slow = self.random.random() < 0.6
        span, trigger = self.part.seconds[command, slow] * 1.05, None
        if command == "cleanup" and self.random.random() < 0.7:
            # It is written as the last thing before the first name goes.
            trigger, span = self.run.path / METADATA / "deletion.json", span / 3 if slow else 0.02
        mover = _Mover(self.run, self.random, self.random.randrange(1, 4), span, trigger)
        mover.start()
        arguments = (command, self.run.argument) if command == "cleanup" else (command,)
        results = [self.workstation.run(*arguments, before=slowed(command) if slow else ())]
        ended = time.monotonic()
        if not mover.join():
            self.case.violation(f"the other program hangs in {mover.done}")
        self._look(mover)
        # Everything that happens afterwards by itself or by an operator's word.
        for _ in range(8):
            results.append(self.workstation.run("drain"))
            if results[-1].code != 75:
                break
        results.append(self.workstation.run("cleanup", self.run.argument))
        self._look(mover)
        results.append(self.workstation.run("enqueue", self.run.argument))
        results.append(self.workstation.run("drain"))
        results.append(self.workstation.run("cleanup", self.run.argument))
        self._look(mover)
        for result in results:
            if result.hung or result.code not in (0, 1, 2, 3, 4, 75):
                self.case.violation(f"HUNG or crashed: {result}")
        self._settled()
        # A race is one where something moved before the program had come to its end.
        if mover.first is not None and mover.first < ended:
            self.case.trial(command)
        else:
            self.case.labels["(too late for a race)"] += 1
        for what in mover.done:
            self.case.labels[what.replace("_", " ")] += 1
        # The next race is another run's.
        self.workstation.runs.remove(self.run)

    def _settled(self):
        jobs = (self.checker.queue() or {}).get(os.fsencode(self.run.path), [])
        if not jobs:
            self.case.violation("FORGOTTEN: there is no job any more")
        elif jobs[-1]["state"] in ("running", "awaiting_verify"):
            self.case.violation(f"STRANDED: nothing moves any more, and the job is {jobs[-1]['state']}")
        for job in jobs:
            self.case.violation(*[f"{self.run.relative}: {text}" for text in history_violations(job)])

    def _look(self, mover):
        """What the NAS shows is proven by what lies there, and was once here; what the other program left is here or there."""
        place, run = self.workstation.place, self.run
        listed, held = {}, set()
        text = place.get(run.remote + f"/{METADATA}/checksums.sha256".encode())
        if text is not None:
            listed = parse_manifest(text)
        elif not self.case.side.in_place and place.is_there(run.remote):
            self.case.violation("HALF RUN: the folder is published without a manifest")
        for name, expected in listed.items():
            content = place.get(run.remote + b"/" + name)
            if content is None or digest(content) != expected:
                self.case.violation(f"HALF RUN: {name!r} on the NAS is not what the manifest says")
            elif expected not in mover.versions.get(name, ()):
                self.case.violation(f"PROOF OF NOTHING: {name!r} is listed with bytes that it never had here")
            else:
                held.add(expected)
        for folder in (run.path, mover.elsewhere):
            held |= {digest(content) for content in (tree(folder) or {}).values() if isinstance(content, bytes)}
        for value, name in mover.alive.items():
            if value not in held:
                self.case.violation(f"LOST: what was left as {name!r} is neither here nor listed on the NAS ({mover.done})")
