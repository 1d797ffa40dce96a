"""Part 9: hostile names and trees. Nothing leaves the run or the NAS's root, nothing is interpreted, what is shown is clean; a run is refused at the
gate, or arrives bit by bit under exactly its names, comes back the same, and is removed only where it is proven."""

import json
import os
import subprocess
import time
import unicodedata

import names_corpus
from checker import digest, tree
from lab import BOOKKEEPING, EQUIPMENT, METADATA, Settings, Workstation, seeded
from nas_side import PROTOCOLS
from names_watch import Watch

_RUNS_PER_CASE = 8
_DOCUMENTED = {0, 1, 2, 3, 4, 75}
_EAGER = {"enabled": True, "min_verify_passes": 1, "min_age_hours": 0}
_MARK = "pwned-by-a-name"


class NamesPart:
    """A case is a workstation with some hostile runs. The first cases are the trees that are large or need rights."""

    drivers = PROTOCOLS
    unavailable = ""

    def __init__(self, campaign, side):
        self.campaign, self.side = campaign, side
        random_ = seeded(campaign.seed, "names", side.driver)
        self.corpus = names_corpus.trees(random_)
        self.corpus += [names_corpus.of_name(what, _marked(name), random_) for what, name in names_corpus.fixed()]
        random_.shuffle(self.corpus)
        self.special = [_Sparse, _Permissions] + ([_Crowded] if side.driver == "sftp-only" else [])

    def prepare(self, folder):
        """Nothing to learn beforehand."""

    def case(self, case):
        if case.number <= len(self.special):
            self.special[case.number - 1](case).go()
            return
        start = (case.number - 1 - len(self.special)) * _RUNS_PER_CASE
        trees = self.corpus[start : start + _RUNS_PER_CASE]
        while len(trees) < _RUNS_PER_CASE:
            what, name = names_corpus.drawn(case.random)
            trees.append(names_corpus.of_name(what, name, case.random))
        _Case(case, trees).go()


def _marked(name):
    return name.replace(b"PWNED", _MARK.encode())[:255]


class _Run:
    """A run of a hostile tree."""

    def __init__(self, workstation, number, content, project=None):
        self.what, self.content = content.what, content
        project = project or b"P%d" % number
        self.remote = EQUIPMENT.encode() + b"/" + project + b"/Runs/Run_2026-04-%02d" % (number + 1)
        self.path = os.fsencode(workstation.lab) + b"/" + self.remote
        os.makedirs(self.path + b"/" + METADATA.encode())
        with open(self.path + f"/{METADATA}/creation.json".encode(), "wb") as file:
            file.write(json.dumps({"schema_version": "1.8", "level": "run", "run_kind": "experimental", "validation_overrides": []}).encode())
        content.make(self.path)
        self.before = look(self.path)

    @property
    def argument(self):
        return os.fsdecode(self.path)


def look(root):
    """{path: digest of a file, target of a link, or what else it is} without the bookkeeping; sparse files are not read whole."""
    found = {}
    for name, content in (tree(root) or {}).items():
        if name not in BOOKKEEPING:
            found[name] = digest(content) if isinstance(content, bytes) else content
    return found


class _Case:
    def __init__(self, case, trees):
        self.case, self.trees, self.random = case, trees, case.random
        settings = Settings(cleanup=_EAGER)
        self.workstation = Workstation(case.folder / "workstation", case.program, case.side.place(f"names-{case.number}"), settings)
        case.workstations.append(self.workstation)
        self.runs = []
        self.names = set()

    def go(self):
        for number, content in enumerate(self.trees):
            project = None
            if content.what == "htaccess-project":
                project = b".htaccess"
            elif len(content.files) == 2 and content.what.endswith("-file") and self.random.random() < 0.15:
                # The name is the project's: it is in every path that is typed, shown and stored.
                project = next(name for name in content.files if name != b"data.bin")[:200]
            try:
                self.runs.append(_Run(self.workstation, number, content, project))
            except OSError as problem:
                self.case.labels[f"({content.what} impossible here: {problem.strerror})"] += 1
        watch = Watch(self.case.side, self.workstation)
        arguments = [run.argument for run in self.runs]
        gate = self.must("gate", "--json", *arguments)
        self.parsed(gate)
        self.must("enqueue", *arguments)
        if self.random.random() < 0.8:
            self.override(gate)
        self.must("drain", timeout=200)
        self.reads_none()
        for command in (("status",), ("problems",), ("status", "--json"), ("problems", "--json")):
            result = self.must(*command)
            if command[-1] == "--json":
                self.parsed(result)
        for run in self.runs:
            self.look_at(run)
        self.must("cleanup")
        for run in self.runs:
            self.cleaned(run)
        self.case.violation(*watch.violations(_MARK))

    def reads_none(self):
        """Nothing came to a web server that it may take for its own instructions: everybody's runs beside it would wait from then on."""
        if self.case.side.driver == "webdav":
            names = [name for name in self.workstation.place.names() if b".htaccess" in name.lower().rstrip(b"/").split(b"/")]
            if names:
                self.case.violation(f"a web server was given {names[:3]}")

    def must(self, *command, timeout=90):
        """Runs a command; it may refuse, and says nothing that a terminal would act on."""
        result = self.workstation.run(*command, timeout=timeout)
        shown = f"nassync {command[0]}"
        if result.hung:
            self.case.violation(f"HUNG: {shown} on {[run.what for run in self.runs]}")
        elif result.code not in _DOCUMENTED:
            self.case.violation(f"CRASHED or undocumented: {shown}: {result.code} {result.text[-300:]!r}")
        self.case.violation(*[f"{shown} {text}" for text in unclean(result.raw)])
        for run in self.runs:
            self.case.violation(*[f"{shown} shows {name!r} as it is" for name in run.before if b"\n" in name and len(name.strip()) > 2 and name in result.raw])
        return result

    def parsed(self, result):
        try:
            return json.loads(result.raw[: len(result.out.encode())]) if result.out else None
        except ValueError as problem:
            self.case.violation(f"nassync {result.arguments[0]} --json is no JSON: {problem}: {result.out[:300]!r}")
            return None

    def override(self, gate):
        """An operator lets everything through that may be let through: then it is the drivers' turn."""
        answers = self.parsed(gate)
        answers = answers if isinstance(answers, list) else [answers]
        blocked = []
        for run, answer in zip(self.runs, answers):
            classes = {finding["problem_class"] for finding in ((answer or {}).get("verdict") or {}).get("blocking_findings", [])}
            for name in sorted(classes):
                self.must("override", "add", run.argument, "--class", name, "--reason", "campaign")
            if classes:
                blocked.append(run.argument)
        if blocked:
            self.must("enqueue", *blocked)

    def look_at(self, run):
        """Refused, or there as it is here."""
        place = self.workstation.place
        there = self.there(run)
        if look(run.path) != run.before:
            self.case.violation(f"{run.what}: the run here has changed")
        self.must("status", run.argument)
        self.parsed(self.must("status", run.argument, "--json"))
        self.must("history", run.argument)
        if place.get(run.remote + f"/{METADATA}/checksums.sha256".encode()) is None:
            if there and not self.case.side.in_place:
                self.case.violation(f"{run.what}: HALF RUN: {sorted(there)[:3]}")
            self.case.trial(run.what.partition("-")[0] + " refused")
            return
        self.case.trial(run.what.partition("-")[0] + " arrived")
        expected = self.expected(run)
        if there != expected:
            wrong = {name for name in there.keys() | expected.keys() if there.get(name) != expected.get(name)}
            self.case.violation(f"{run.what}: on the NAS it is not what it is here: {sorted(wrong)[:4]}")
        self.restored(run, expected)

    def expected(self, run):
        folders = not self.case.side.in_place
        return {name: what for name, what in run.before.items() if (folders or what != ("folder",)) and not name.endswith(b".tmp")}

    def there(self, run):
        place, found = self.workstation.place, {}
        for path in place.names(run.remote):
            name = path[len(run.remote) + 1 :].rstrip(b"/")
            if not name or name in BOOKKEEPING:
                continue
            if path.endswith(b"/"):
                found[name] = ("folder",)
            elif hasattr(place, "root") and os.path.islink(os.path.join(place.root, path)):
                found[name] = ("link", os.readlink(os.path.join(place.root, path)))
            else:
                found[name] = digest(place.get(path) or b"")
        return found if not self.case.side.in_place else {name: what for name, what in found.items() if what != ("folder",)}

    def restored(self, run, expected):
        folder = self.workstation.folder / f"back-{self.runs.index(run)}"
        result = self.must("restore", run.argument, str(folder), timeout=150)
        back = look(folder)
        if self.case.side.in_place:
            back = {name: what for name, what in back.items() if what != ("folder",)}
        if result.code != 0 or back != expected:
            wrong = {name for name in back.keys() | expected.keys() if back.get(name) != expected.get(name)}
            self.case.violation(f"{run.what}: not restored as it was: {result.code} {sorted(wrong)[:4]} {result.text[-300:]!r}")

    def cleaned(self, run):
        """What is gone here is on the NAS, with the same bytes."""
        here, there = look(run.path), self.there(run)
        for name, what in run.before.items():
            if name not in here and what != ("folder",) and there.get(name) != what:
                self.case.violation(f"{run.what}: DELETED without proof: {name!r}")
        for name in here:
            if name not in run.before:
                self.case.violation(f"{run.what}: left behind here: {name!r}")


def unclean(raw):
    """What in a program's output a terminal, a log or a page would act on."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as problem:
        return [f"says bytes that are no text: {raw[max(0, problem.start - 40) : problem.start + 10]!r}"]
    for number, letter in enumerate(text):
        # No unassigned ones: what is assigned depends on the year.
        if letter != "\n" and unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp", "Co", "Cs"):
            return [f"shows U+{ord(letter):04X} as it is: {text[max(0, number - 60) : number + 10]!r}"]
    return []


class _Sparse(_Case):
    """A file of a tebibyte, most of it a hole: nothing hangs, nothing eats the memory, and it can be stopped."""

    def __init__(self, case):
        super().__init__(case, [])

    def go(self):
        self.workstation.configure(Settings(upload_mbps=40))
        tree_ = names_corpus.Tree("sparse-1TiB", {b"data.bin": b"x"})
        run = _Run(self.workstation, 0, tree_)
        try:
            os.truncate(run.path + b"/data.bin", 1 << 40)
        except OSError as problem:
            self.case.labels[f"(no tebibyte here: {problem.strerror})"] += 1
            self.case.trial("sparse impossible")
            return
        for command in ("gate", "enqueue"):
            result = self.must(command, run.argument, timeout=30)
            if result.seconds > 20:
                self.case.violation(f"{command} of a sparse tebibyte took {result.seconds:.0f} s")
        process = self.workstation.start("drain")
        peak, until = 0, time.monotonic() + 5
        while time.monotonic() < until and process.poll() is None:
            peak = max(peak, _resident(process.pid))
            time.sleep(0.05)
        result = self.workstation.ended(process, ("drain",), after=0)
        if result.hung or result.code not in (*_DOCUMENTED, 130, 143):
            self.case.violation(f"a sparse tebibyte: {result}")
        if peak > 300 << 20:
            self.case.violation(f"a sparse tebibyte took {peak >> 20} MiB of memory")
        if os.stat(run.path + b"/data.bin").st_size != 1 << 40:
            self.case.violation("the sparse file was changed")
        self.case.trial(f"sparse-1TiB {'sent in part' if result.code in (130, 143, 75, 0) else 'refused'}")


class _Permissions(_Case):
    """Files and folders that the user may not read: found by the gate, which says which."""

    def __init__(self, case):
        super().__init__(case, [])

    def go(self):
        content = names_corpus.Tree("permissions", {b"data.bin": b"x", b"secret\x1b[31m.bin": b"y", b"closed/z.bin": b"z", b"no-list/z.bin": b"z"})
        run = _Run(self.workstation, 0, content)
        for name, mode in ((b"secret\x1b[31m.bin", 0), (b"closed", 0), (b"no-list", 0o311)):
            os.chmod(run.path + b"/" + name, mode)
        before = ()
        if os.geteuid() == 0:
            nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            subprocess.run(["chown", "-R", "65534:65534", str(self.workstation.folder)], check=True)
            os.chmod(self.case.campaign.base, 0o711)
            if subprocess.run([*nobody, self.case.program, "--version"], capture_output=True).returncode != 0:
                self.case.labels["(nobody may not run the program here)"] += 1
                self.case.trial("permissions impossible")
                return
            before = nobody
        for command in (("gate", run.argument), ("gate", run.argument, "--json"), ("enqueue", run.argument)):
            result = self.workstation.run(*command, before=before)
            self.case.violation(*[f"{command[0]} {text}" for text in unclean(result.raw)])
            if result.code != 3:
                self.case.violation(f"files that may not be read: {result}")
            self.case.violation(*[f"{name} is not named: {result}" for name in ("secret", "closed", "no-list") if name not in result.text])
        self.case.trial("permissions refused")


class _Crowded(_Case):
    """A hundred thousand entries in a folder."""

    def __init__(self, case):
        super().__init__(case, [])

    def go(self):
        run = _Run(self.workstation, 0, names_corpus.Tree("crowded", {b"all/%06d" % number: b"" for number in range(100_000)}))
        self.runs.append(run)
        for command in ("gate", "enqueue"):
            result = self.must(command, run.argument, timeout=200)
            if result.code != 0:
                self.case.violation(f"100,000 entries: {result.text[-300:]}")
        self.must("drain", timeout=550)
        self.look_at(run)


def _resident(process):
    """Bytes of memory that a process has now; 0 where it is gone."""
    try:
        with open(f"/proc/{process}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0
