"""One case's workstation: its configuration, its runs, and the real program run in it, whole or with a fault in it."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import threading
import time

METADATA = ".exlab-wizard"
EQUIPMENT = "CYTOMETER_01"
# The files of the metadata folder that no manifest lists.
BOOKKEEPING = {f"{METADATA}/{name}".encode() for name in ("creation.json", "checksums.sha256", "receipt.json", "deletion.json")}
# A record's keys that are none of the program's: they must survive every rewrite.
FOREIGN_KEYS = {"kept": {"a": [1, "ü"], "big": 12345678901234567890}, "operator_note": "do not touch"}


class Settings:
    """What a case wants of the service, as it stands in nassync.yaml."""

    def __init__(self, **values):
        self.values = {
            "state_dir": "./state", "equipment_dir": "./equipment", "metadata_dir": METADATA, "workers": 2,
            "retry": {"backoff": ["300ms", "300ms", "300ms", "300ms", "300ms", "300ms"]},
            "verify": {"audit_interval": "1s"},
            "cleanup": {"enabled": False, "min_verify_passes": 1, "min_age_hours": 0},
        }  # fmt: skip
        for key, value in values.items():
            merged = {**self.values.get(key, {}), **value} if isinstance(value, dict) else value
            self.values[key] = merged


class Result:
    """How one run of the program ended."""

    def __init__(self, arguments, code, out, err, seconds, killed, raw=b""):
        self.raw = raw
        self.arguments, self.code, self.out, self.err, self.seconds, self.killed = arguments, code, out, err, seconds, killed

    @property
    def hung(self):
        return self.code is None

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def text(self):
        return self.out + self.err

    def __str__(self):
        return f"nassync {' '.join(self.arguments)}: exit {self.code}\n{self.text.strip()}"


class Workstation:
    """A folder with `nassync.yaml`, `equipment/`, `state/` and `lab/`."""

    def __init__(self, folder, program, place, settings=None, transport=None):
        self.folder = pathlib.Path(folder)
        self.place = place
        self.lab = self.folder / "lab"
        self.state = self.folder / "state"
        self.runs = []
        self.program = str(program)
        self.log = []
        self.lab.mkdir(parents=True)
        (self.folder / "equipment").mkdir()
        self.configure(settings or Settings(), transport or {})

    def configure(self, settings, transport=None):
        # JSON is YAML.
        (self.folder / "nassync.yaml").write_text(json.dumps(settings.values, indent=1) + "\n")
        profile = {
            "id": EQUIPMENT, "label": "campaign", "local_root": str(self.lab), "exclude": ["*.tmp"],
            "transport": {**self.place.transport, "timeout": "15s", **(transport or {})},
        }  # fmt: skip
        (self.folder / "equipment" / f"{EQUIPMENT}.yaml").write_text(json.dumps(profile, indent=1) + "\n")

    def run(self, *arguments, before=(), timeout=90, kill_after=None, signals=(), environment=None, once=None):
        """Runs the program to its end, or kills it after `kill_after` seconds. `before`: a command line that it is run under.
        `signals`: (seconds, number) each, for the program alone. `once`: seconds count from when this first says yes."""
        process, started = self.start(*arguments, before=before, environment=environment), time.monotonic()
        while once is not None and process.poll() is None and time.monotonic() - started < timeout and not once():
            time.sleep(0.002)
        timers = [threading.Timer(after, process.send_signal, (number,)) for after, number in signals]
        if kill_after is not None:
            timers.append(threading.Timer(kill_after, self.kill, (process,)))
        for timer in timers:
            timer.start()
        try:
            out, err = process.communicate(timeout=timeout)
            code = process.returncode
        except subprocess.TimeoutExpired:
            self.kill(process)
            out, err = process.communicate()
            code = None
        finally:
            for timer in timers:
                timer.cancel()
        killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
        result = Result(arguments, code, out.decode(errors="replace"), err.decode(errors="replace"), time.monotonic() - started, killed, out + err)
        self.log.append(f"[{' '.join(before)}] {result}")
        return result

    def start(self, *arguments, before=(), environment=None):
        base = {key: value for key, value in os.environ.items() if not key.startswith("NASSYNC_") and key != "SSH_AUTH_SOCK"}
        return subprocess.Popen(
            [*before, self.program, *arguments], cwd=self.folder, env={**base, **(environment or {})}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def ended(self, process, arguments, after):
        """How a service ends that is told to stop after some seconds; where it does not within twenty, it is killed, and hung."""
        started = time.monotonic()
        for patience, number in ((max(after, 0.01), signal.SIGTERM), (20, signal.SIGKILL), (10, None)):
            try:
                out, err = process.communicate(timeout=patience)
                break
            except subprocess.TimeoutExpired:
                if number is not None:
                    self.kill(process, number)
        hung = process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        out, err = out.decode(errors="replace"), err.decode(errors="replace")
        result = Result(arguments, None if hung else process.returncode, out, err, time.monotonic() - started, False)
        self.log.append(str(result))
        return result

    @staticmethod
    def kill(process, number=signal.SIGKILL):
        """The whole session: a tracer that is killed alone would let the program go on."""
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass

    def make_run(self, random_, name, links=False, files=None, large=True):
        run = Run(self, random_, name, links, files, large)
        self.runs.append(run)
        return run

    def sqlite(self, folder):
        """A copy of the queue's files, so that looking changes nothing of them. None where there is no queue yet."""
        folder = pathlib.Path(folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("queue.db", "queue.db-wal", "queue.db-journal"):
            try:
                shutil.copyfile(self.state / name, folder / name)
            except FileNotFoundError:
                continue
        copy = folder / "queue.db"
        return copy if copy.exists() and copy.stat().st_size > 0 else None


class Run:
    """A run on the workstation, and what is known of it: every byte of it, whatever becomes of the folder."""

    NAMES = ("data", "plate 1", "-dash", "ünïcode", "a.b.c", "UPPER", ".hidden", "t'quote", "percent%41", "plus+and&", "日本")
    ENDINGS = (".fcs", ".tif", ".dat", ".bin", ".xml")

    def __init__(self, workstation, random_, name, links, files, large):
        self.workstation = workstation
        kind = random_.choice(("Runs/Run", "TestRuns/TestRun"))
        self.relative = f"{EQUIPMENT}/{name}/{kind}_2026-03-{random_.randrange(1, 29):02}"
        self.path = workstation.lab / self.relative
        self.files, self.links, self.folders = {}, {}, set()
        # The files of each generation that was enqueued.
        self.generations = []
        self.path.mkdir(parents=True)
        (self.path / METADATA).mkdir()
        record = {
            "schema_version": "1.8", "level": "run", "run_kind": "test" if "Test" in kind else "experimental", "sync_status": "pending",
            "validation_overrides": [], **FOREIGN_KEYS,
        }  # fmt: skip
        (self.path / METADATA / "creation.json").write_text(json.dumps(record, ensure_ascii=False))
        self.add_files(random_, files or random_.randrange(8, 24), large)
        self.put(f"{METADATA}/readme_fields.json".encode(), b'{"sample": "A1"}\n')
        if random_.random() < 0.5:
            self.folders.add(b"empty folder")
            os.mkdir(os.fsencode(self.path) + b"/empty folder")
        if links and random_.random() < 0.4:
            target = random_.choice([name for name in self.files if b"/" not in name] or [b"nothing"])
            self.links[b"link to it"] = target
            os.symlink(target, os.fsencode(self.path) + b"/link to it")

    def add_files(self, random_, count, large=False):
        """New files, none of a name that there is: what the next generation adds."""
        self.generations.append(dict(self.files))
        for number in range(count):
            folder = random_.choice((b"", b"", b"raw/", b"raw/deep/er/", b"tiles/"))
            name = f"{random_.choice(self.NAMES)} {len(self.files)}_{number}{random_.choice(self.ENDINGS)}".encode()
            size = random_.choice((0, 1, 700, 4096, random_.randrange(1, 30_000)))
            if large and number == 0:
                size = random_.choice((32_768, 262_144, 262_145, random_.randrange(100_000, 900_000)))
            self.put(folder + name, random_.randbytes(size))

    def put(self, name, content):
        """A file of the run's, known from now on."""
        path = os.fsencode(self.path) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        self.files[name] = content
        self.generations[-1][name] = content

    def put_many(self, random_, count):
        """Small files in some folders."""
        for number in range(count):
            self.put(f"many/{number % 7}/{number}.dat".encode(), random_.randbytes(random_.randrange(0, 3_000)))

    @property
    def remote(self):
        return self.relative.encode()

    @property
    def argument(self):
        return str(self.path)


def seeded(*words):
    """A source of random numbers that depends on these words alone."""
    return random.Random("/".join(map(str, words)))
