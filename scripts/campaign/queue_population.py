"""A workstation whose queue knows a run in every state, each brought there as it comes there: sent, cleaned, stopped, killed on its way."""

import os
import shutil
import sqlite3
import time

import seals
from checker import tree
from faults import tracing
from lab import METADATA, Settings, Workstation

# What a run may be after `recover`, by what it was before: as it was, or as the NAS and the run itself say.
_ON_ITS_WAY = {"queued", "running", "awaiting_verify", "verified"}
EXPECTED = {
    "cleaned": {"cleaned"}, "verified": {"verified", "cleanup_eligible"}, "cleanup_eligible": {"verified", "cleanup_eligible"},
    "failed": {"failed", *_ON_ITS_WAY}, "queued": _ON_ITS_WAY, "running": _ON_ITS_WAY, "awaiting_verify": _ON_ITS_WAY,
}  # fmt: skip
_EAGER = {"enabled": True, "min_verify_passes": 1, "min_age_hours": 0}
_FILES = ("queue.db", "queue.db-wal", "queue.db-shm")


class Population:
    """The runs by state, what lay in them, and the queue's files as they were."""

    def __init__(self, case, cleanup):
        self.case, self.random, self.cleanup = case, case.random, cleanup
        self.workstation = Workstation(case.folder / "workstation", case.program, case.side.place(f"queuefile-{case.number}"))
        case.workstations.append(self.workstation)
        self.runs, self.before, self.aside = {}, {}, set()
        # {name: bytes} of the queue's files: now, as an older state of them, and now without a log.
        self.now, self.old, self.settled = {}, {}, {}

    def make(self):
        """Returns whether all states could be made."""
        workstation = self.workstation
        settle = Settings(cleanup=_EAGER)
        workstation.configure(settle)
        for state in ("cleaned", "verified", "cleanup_eligible"):
            self._enqueue(state)
        workstation.run("drain")
        workstation.run("cleanup", self.runs["cleaned"].argument)
        # A file that nobody sent keeps the run, which is eligible from then on.
        late = self.runs["cleanup_eligible"].path / "late.dat"
        late.write_bytes(b"late")
        workstation.run("cleanup", self.runs["cleanup_eligible"].argument)
        late.unlink()
        self.old = self._files()
        self._enqueue("failed")
        workstation.configure(Settings(cleanup=_EAGER, gate={"validators": [{"command": ["false"]}]}))
        workstation.run("drain")
        workstation.configure(settle)
        if not self._stop_awaiting():
            return False
        self._enqueue("queued")
        self._enqueue("running")
        self._claim()
        workstation.configure(Settings(cleanup=self.cleanup))
        states = self.states()
        wrong = {name: states.get(run.argument) for name, run in self.runs.items() if states.get(run.argument) != name}
        if wrong:
            self.case.violation(f"could not be prepared: {wrong}; {workstation.log[-1]}")
            return False
        if self.cleanup == _EAGER:
            self._spoil()
        self.renew()
        return True

    def renew(self):
        """As it is now, it is put back."""
        self.now = self._files()
        self.settled = self._without_log()
        self.before = {run.relative: self.data(run) for run in self.workstation.runs}
        self.aside = {path.name for path in self.workstation.state.glob("queue.db.damaged-*")}

    def put_back(self):
        """The queue's files as they were."""
        state = self.workstation.state
        for path in state.glob("queue.db*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        write(state, self.now)

    def data(self, run):
        """{name: content} of what the instrument wrote."""
        return {name: content for name, content in (tree(run.path) or {}).items() if not (name + b"/").startswith(METADATA.encode() + b"/")}

    def states(self):
        """{run path: state} as the file says now; empty where it cannot be read."""
        copy = self.workstation.sqlite(self.workstation.folder / "queue-copy")
        if copy is None:
            return {}
        connection = sqlite3.connect(copy)
        try:
            return dict(connection.execute("SELECT run_path, state FROM job ORDER BY generation"))
        except sqlite3.Error:
            return {}
        finally:
            connection.close()

    def until(self, holds, seconds):
        """Waits for the queue to say something."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if holds(self.states()):
                return True
            time.sleep(0.1)
        return False

    def _enqueue(self, name):
        run = self.runs[name] = self.workstation.make_run(self.random, name.upper()[:8] + str(len(self.runs)), files=5, large=False)
        self.workstation.run("enqueue", run.argument)

    def _stop_awaiting(self):
        """A worker that dies while it verifies."""
        self._enqueue("awaiting_verify")
        slowed = tracing(("recvfrom", "sendto"), "-o", os.devnull, "-e", "inject=recvfrom,sendto:delay_exit=4000")
        process = self.workstation.start("drain", before=slowed)
        path = self.runs["awaiting_verify"].argument
        found = False
        connection = sqlite3.connect(f"file:{self.workstation.state}/queue.db?mode=ro", uri=True, isolation_level=None)
        try:
            while process.poll() is None and not found:
                row = connection.execute("SELECT state FROM job WHERE run_path = ?", (path,)).fetchone()
                found = row is not None and row[0] == "awaiting_verify"
                time.sleep(0.001)
        finally:
            connection.close()
            self.workstation.kill(process)
            process.communicate()
        if self.states().get(path) != "awaiting_verify":
            # It was too fast. That happens, and says nothing.
            self.case.labels["(too fast)"] += 1
            return False
        return True

    def _claim(self):
        """A job in the hands of a worker that is not there: written here as the program writes it, seals and all."""
        connection = sqlite3.connect(self.workstation.state / "queue.db", isolation_level=None)
        try:
            connection.create_function("nassync_seal", -1, seals.seal, deterministic=True)
            connection.execute("BEGIN IMMEDIATE")
            (number,) = connection.execute("SELECT number FROM job WHERE run_path = ?", (self.runs["running"].argument,)).fetchone()
            connection.execute("UPDATE job SET state = 'running', claimed_by = 'elsewhere:1', attempts = 1 WHERE number = ?", (number,))
            connection.execute(
                "INSERT INTO history (job, at, event, from_state, to_state, detail) VALUES (?, ?, 'claimed', 'queued', 'running', '')",
                (number, time.time()),
            )
            connection.execute("COMMIT")
        finally:
            connection.close()

    def _spoil(self):
        """No copy of the runs that the queue calls verified is a proof of what lies here any more."""
        place = self.workstation.place
        for state in ("verified", "cleanup_eligible"):
            run = self.runs[state]
            name = self.random.choice([name for name, content in run.files.items() if content and not name.startswith(METADATA.encode())])
            way = self.random.choice(("flipped", "gone", "manifest", "changed here"))
            if way == "flipped":
                content = bytearray(run.files[name])
                content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
                place.put(run.remote + b"/" + name, bytes(content))
            elif way == "gone":
                place.delete(run.remote + b"/" + name)
            elif way == "manifest":
                path = run.remote + f"/{METADATA}/checksums.sha256".encode()
                place.put(path, place.get(path).replace(b"a", b"b", 1))
            else:
                with open(os.fsencode(run.path) + b"/" + name, "ab") as file:
                    file.write(b"more")

    def _files(self):
        found = {}
        for name in _FILES:
            try:
                found[name] = (self.workstation.state / name).read_bytes()
            except FileNotFoundError:
                continue
        return found

    def _without_log(self):
        folder = self.workstation.folder / "settled"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write(folder, {name: content for name, content in self.now.items() if name != "queue.db-shm"})
        connection = sqlite3.connect(folder / "queue.db")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return {"queue.db": (folder / "queue.db").read_bytes()}


def write(folder, files):
    """Puts the queue's files into a folder that has none of them."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
