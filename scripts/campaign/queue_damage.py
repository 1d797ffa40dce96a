"""What happens to a queue file, each kind as an attack that is laid and, where a person has to, undone."""

import os
import shutil
import sqlite3
import subprocess
import sys

from faults import tracing
from queue_population import write

_PAGE = 4096
_FLIPS = 0.9


class Attack:
    """A damage that was done.

    `before`: a command line that programs are run under while it lasts. `noticed`: no command may end well on it. `mend`: a person has to undo
    it ("must") or may have to ("may") before `recover` can help. `strict`: afterwards each run stands where it stood. `good`: the file itself is
    whole, and has to stay.
    """

    def __init__(self, undo=None, before=(), noticed=False, mend="", strict=True, good=False):
        self._undo, self.before, self.noticed, self.mend, self.strict, self.good = undo, before, noticed, mend, strict, good

    def undo(self):
        """Mends what a person would mend; a second time does nothing."""
        undo, self._undo, self.before = self._undo, None, ()
        if undo:
            undo()


def draw(random_, workstation, population, foreign):
    """(what, attack): the queue's files of a population, damaged in a way that is drawn. What is drawn is laid."""
    if random_.random() < _FLIPS:
        return _flip(random_, workstation, population)
    kinds = [kind for kind in _KINDS if kind not in _ROOT_ALONE or os.geteuid() == 0]
    kind = random_.choice(kinds)
    return _KINDS[kind](random_, workstation, population, foreign)


def _lay(workstation, files):
    _clear(workstation)
    write(workstation.state, files)


def _clear(workstation):
    for name in ("queue.db", "queue.db-wal", "queue.db-shm"):
        path = workstation.state / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _base(random_, population):
    """The file as the last process left it, with its log, or with all of that in the file itself."""
    return dict(population.now if random_.random() < 0.4 else population.settled)


def _flip(random_, workstation, population):
    files = _base(random_, population)
    name = "queue.db-wal" if len(files.get("queue.db-wal", b"")) and random_.random() < 0.35 else "queue.db"
    content = bytearray(files[name])
    offset = random_.randrange(len(content))
    if random_.random() < 0.7:
        # Where something stands: most of a small file is empty.
        filled = [number for number, byte in enumerate(content) if byte]
        offset = random_.choice(filled)
    bit = random_.randrange(8)
    content[offset] ^= 1 << bit
    files[name] = bytes(content)
    files.pop("queue.db-shm", None)
    _lay(workstation, files)
    return f"flip-{name.partition('-')[2] or 'file'} byte {offset} bit {bit}, {len(files)} files", Attack()


def _cut(random_, workstation, population, foreign):
    files = _base(random_, population)
    size = len(files["queue.db"])
    how = random_.choice(("random", "page"))
    length = random_.randrange(1, size) if how == "random" else random_.randrange(1, size // _PAGE) * _PAGE
    files["queue.db"] = files["queue.db"][:length]
    files.pop("queue.db-shm", None)
    _lay(workstation, files)
    return f"cut-{how} to {length} of {size}", Attack()


def _emptied(random_, workstation, population, foreign):
    files = _base(random_, population)
    files["queue.db"] = b""
    if random_.random() < 0.5:
        files.pop("queue.db-wal", None)
    files.pop("queue.db-shm", None)
    _lay(workstation, files)
    return f"emptied with {len(files) - 1} others", Attack(noticed=True)


def _without(random_, workstation, population, foreign):
    files = dict(population.now)
    gone = random_.choice((["queue.db-wal"], ["queue.db-shm"], ["queue.db-wal", "queue.db-shm"]))
    for name in gone:
        files.pop(name, None)
    _lay(workstation, files)
    return f"log-removed {gone}", Attack(strict="queue.db-wal" not in gone)


def _gone(random_, workstation, population, foreign):
    files = {} if random_.random() < 0.5 else {name: content for name, content in population.now.items() if name != "queue.db"}
    _lay(workstation, files)
    return f"gone with {len(files)} left", Attack(noticed=bool(files.get("queue.db-wal")))


def _swapped(random_, workstation, population, foreign):
    files, old = dict(population.now), population.old
    which = random_.choice(("queue.db", "queue.db-wal", "queue.db-shm", "all"))
    for name in old if which == "all" else [which]:
        if name in old:
            files[name] = old[name]
    if which != "queue.db-shm":
        files.pop("queue.db-shm", None)
    _lay(workstation, files)
    return f"old-{which}", Attack(strict=False)


def _newer(random_, workstation, population, foreign):
    _lay(workstation, population.settled)
    connection = sqlite3.connect(workstation.state / "queue.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    return "newer-schema", Attack(lambda: _lay(workstation, population.now), mend="must", noticed=True, good=True)


def _another_program(random_, workstation, population, foreign):
    _clear(workstation)
    connection = sqlite3.connect(workstation.state / "queue.db")
    connection.executescript("PRAGMA application_id = 4711; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
    connection.close()
    return "another-programs", Attack(lambda: _clear(workstation), mend="must", noticed=True, good=True)


def _another_equipment(random_, workstation, population, foreign):
    _lay(workstation, {"queue.db": foreign})
    return "another-equipments", Attack()


def _garbage(random_, workstation, population, foreign):
    size = len(population.settled["queue.db"])
    content = random_.randbytes(size)
    if random_.random() < 0.5:
        content = population.settled["queue.db"][:100] + content[100:]
    _lay(workstation, {"queue.db": content})
    return "garbage", Attack()


def _zeroed(random_, workstation, population, foreign):
    files = dict(population.settled)
    content = files["queue.db"]
    page = random_.randrange(len(content) // _PAGE)
    files["queue.db"] = content[: page * _PAGE] + bytes(_PAGE) + content[(page + 1) * _PAGE :]
    _lay(workstation, files)
    return f"zeroed-page {page}", Attack()


def _folder(random_, workstation, population, foreign):
    _clear(workstation)
    (workstation.state / "queue.db").mkdir()
    if random_.random() < 0.5:
        (workstation.state / "queue.db" / "queue.db").write_bytes(population.settled["queue.db"])
    return "folder", Attack(lambda: _clear(workstation), mend="must", noticed=True)


def _fifo(random_, workstation, population, foreign):
    _clear(workstation)
    os.mkfifo(workstation.state / "queue.db")
    return "fifo", Attack(lambda: _clear(workstation), mend="must", noticed=True)


def _link(random_, workstation, population, foreign):
    """To the good file, to garbage, to nothing."""
    _clear(workstation)
    which = random_.choice(("file", "garbage", "nothing", "loop"))
    target = workstation.folder / f"elsewhere-{random_.randrange(10**6)}"
    target.mkdir()
    content = {"file": population.settled["queue.db"], "garbage": random_.randbytes(9000)}.get(which)
    if content is not None:
        (target / "queue.db").write_bytes(content)
    os.symlink("queue.db" if which == "loop" else target / "queue.db", workstation.state / "queue.db")
    if which in ("nothing", "loop"):
        return f"link-to-{which}", Attack(lambda: _clear(workstation), noticed=True, mend="must")
    return f"link-to-{which}", Attack(good=which == "file")


def _read_only(random_, workstation, population, foreign):
    _lay(workstation, _base(random_, population))
    which = random_.choice(("file", "folder"))
    path = workstation.state / "queue.db" if which == "file" else workstation.state
    if os.geteuid() == 0:
        # No mode keeps root from writing.
        _must(["mount", "--bind", path, path])
        _must(["mount", "-o", "remount,bind,ro", path])
        return f"read-only-{which}", Attack(lambda: _must(["umount", "-l", path]), mend="may", good=True)
    mode = path.stat().st_mode
    path.chmod(mode & ~0o222)
    return f"read-only-{which}", Attack(lambda: path.chmod(mode), mend="may", good=True)


def _full(random_, workstation, population, foreign):
    """The state folder's disk has no byte left."""
    files = _base(random_, population)
    _must(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", workstation.state])
    write(workstation.state, files)
    (workstation.state / "queue.lock").write_bytes(b"")
    ballast = workstation.state / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(_PAGE))
        except OSError:
            # That was the aim.
            file.flush()

    def undo():
        kept = {path.name: path.read_bytes() for path in workstation.state.glob("queue.db*")}
        _must(["umount", "-l", workstation.state])
        _clear(workstation)
        write(workstation.state, kept)

    return "full-disk", Attack(undo, mend="may", good=True)


def _unreadable(random_, workstation, population, foreign):
    """The disk does not give the file, once or any more; the file is good."""
    _lay(workstation, _base(random_, population))
    when = random_.choice(("1+", "2+", "4+", "9+", "1", "2", "3", "5", "8"))
    # By the name that the program was told: strace resolves nothing of a file that appears later.
    path = os.path.realpath(workstation.state / "queue.db")
    before = tracing(("pread64",), "-o", os.devnull, "-P", path, "-P", path + "-wal", "-e", f"inject=pread64:error=EIO:when={when}")
    return f"unreadable-{'lasting' if '+' in when else 'once'} {when}", Attack(_nothing, before=before, mend="may", good=True)


def _nothing():
    """There is nothing to mend."""


def _must(command):
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


_ROOT_ALONE = {"full"}
_KINDS = {
    "cut": _cut, "emptied": _emptied, "without": _without, "gone": _gone, "swapped": _swapped, "newer": _newer,
    "another program": _another_program, "another equipment": _another_equipment, "garbage": _garbage, "zeroed": _zeroed, "folder": _folder,
    "fifo": _fifo, "link": _link, "read-only": _read_only, "full": _full, "unreadable": _unreadable,
}  # fmt: skip


class Holder:
    """Another process that has the queue for itself for a while."""

    def __init__(self, state, way, seconds, alone):
        body = {
            # As a backup program or a database browser does it: nobody reads or writes.
            "sqlite": "db = sqlite3.connect(sys.argv[1] + '/queue.db', isolation_level=None, timeout=60)\n"
            + ("db.execute('PRAGMA locking_mode = EXCLUSIVE')\n" if alone else "") + "db.execute('BEGIN EXCLUSIVE')",
            # As a nassync does that was stopped in mid-write.
            "flock": "f = os.open(sys.argv[1] + '/queue.lock', os.O_RDWR)\n"
            "fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))",
        }[way]
        program = f"import fcntl, os, sqlite3, struct, sys, time\n{body}\nprint('held', flush=True)\ntime.sleep(float(sys.argv[2]))\n"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(state), str(seconds)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        self.held = self._process.stdout.readline() == b"held\n"

    def join(self):
        self._process.wait(timeout=120)
