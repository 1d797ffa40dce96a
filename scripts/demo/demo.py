#!/usr/bin/env python3
"""The main job from end to end, before your eyes: runs of lab instruments are checked, queued, sent to a NAS, proven and published.

Everything happens in a folder of its own, against a server of its own on loopback (DRIVER: sftp, webdav or s3); both are gone afterwards.
Every exit code that the program promises is checked, so the demo fails loudly where something is not as it says. Started by `scripts/demo/run`.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import instruments
import screen
from nas import CannotStart, PrivateNAS
from store import PrivateStore
from webdav_nas import PrivateWebDAV
from workstation import Failed, Workstation, hard_findings

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
METADATA = ".exlab-wizard"
DRIVERS = {"sftp": PrivateNAS, "webdav": PrivateWebDAV, "s3": PrivateStore}


def main():
    program = os.environ.get("NASSYNC_PROGRAM", "")
    if not os.access(program, os.X_OK):
        print("demo: start it with `make demo`", file=sys.stderr)
        return 2
    driver = os.environ.get("DRIVER") or "sftp"
    if driver not in DRIVERS:
        print(f"demo: there is no driver {driver!r}; DRIVER is one of {', '.join(DRIVERS)}", file=sys.stderr)
        return 2
    own_tree = os.environ.get("RUNS") or None
    for number in (signal.SIGTERM, signal.SIGHUP):
        # So that the folder is removed and the server stopped on the way out.
        signal.signal(number, lambda received, _: sys.exit(128 + received))

    folder = pathlib.Path(tempfile.mkdtemp(prefix="nassync-demo-")).resolve()
    nas = DRIVERS[driver](folder)
    try:
        started = time.monotonic()
        runs, labels, blocked, pace = prepare(folder, own_tree)
        nas.start()
        workstation = Workstation(folder, program, timeout=None if own_tree else 300)
        workstation.configure(labels, nas, REPOSITORY / "equipment", pace)
        screen.outcome(f"A private {nas.word} answers at {nas.address}")
        Tour(workstation, nas, runs, blocked, is_own_tree=bool(own_tree)).go()
        summarise(nas, runs, time.monotonic() - started, own_tree)
        return 0
    except (Failed, CannotStart, instruments.NotALab, RuntimeError, OSError) as problem:
        print(flush=True)
        screen.outcome(f"The demo failed: {problem}", good=False)
        if nas.log.exists() and not isinstance(problem, instruments.NotALab):
            tail = nas.log.read_text(errors="replace").splitlines()[-5:]
            screen.note(f"The {nas.word}'s last words:\n    " + "\n    ".join(tail or ["none"]))
        return 1
    except KeyboardInterrupt:
        print(flush=True)
        screen.outcome("Stopped.", good=False)
        return 130
    finally:
        nas.stop()
        if os.environ.get("KEEP"):
            screen.note(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, onerror=_make_writable_and_retry)


def prepare(folder, own_tree):
    """Fills `folder/lab`; returns the runs, the instruments with their labels, the run to be blocked, and a limit in Mbit/s."""
    lab = folder / "lab"
    if own_tree:
        copy_own_tree(pathlib.Path(own_tree), lab, folder)
        runs = [os.path.join("lab", run) for run in instruments.find_runs(lab)]
        labels = {run.split("/")[1]: f"{run.split('/')[1]} (your own)" for run in runs}
        screen.outcome(f"{len(runs)} runs of {len(labels)} instruments found in it")
        return runs, labels, None, None
    screen.title("Fetching flow cytometry files …")
    files, origin = instruments.fetch()
    runs, blocked = instruments.lay_out(files, lab)
    screen.outcome(f"{len(files)} files, {screen.size(sum(map(len, files.values())))}, {origin}")
    screen.outcome(f"Laid out as {len(runs)} runs of 2 instruments under 2 projects, with one leaf name in both")
    # Slow enough for the progress bar to be seen.
    return runs, instruments.LABELS, blocked, 40


def copy_own_tree(tree, lab, folder):
    """Copies a lab's tree; the original is only read. Raises NotALab or Failed before a byte is copied."""
    if not tree.is_dir():
        raise instruments.NotALab(f"RUNS={tree} is not a folder")
    try:
        instruments.find_runs(tree)
    except instruments.NotALab as problem:
        raise instruments.NotALab(f"RUNS={tree}: {problem}") from problem
    total = sum(
        os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(tree) for name in names
    )
    # The copy, and what the NAS will hold of it.
    needed, free = 2 * total + 256 * 1024 * 1024, shutil.disk_usage(folder).free
    if needed > free:
        raise Failed(
            f"{tree} holds {screen.size(total)}; the copy and the NAS need {screen.size(needed)} below {folder.parent}, "
            f"where {screen.size(free)} are free. Name another place with TMPDIR=/path make demo RUNS={tree}"
        )
    screen.title(f"Copying {screen.size(total)} from {tree}, which is only read …")
    result = subprocess.run(["cp", "-a", "--reflink=auto", "--", str(tree.resolve()), str(lab)], stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise Failed(f"cp could not copy {tree} (its words are above)")


class Tour:
    """The steps, in the order they are shown."""

    def __init__(self, workstation, nas, runs, blocked, is_own_tree):
        self.workstation = workstation
        self.nas = nas
        self.runs = runs
        self.expected_block = blocked
        self.is_own_tree = is_own_tree
        self.step = 0

    def go(self):
        self.check()
        blocked = self.gate()
        self.queue_and_send(blocked)
        sent = [run for run in self.runs if run not in blocked]
        if blocked:
            sent += self.override(blocked)
        if not sent:
            raise Failed("no run got through the gate, so there was nothing to send")
        self.corrupt_and_restore(sent[0])
        self.records(sent, blocked)
        self.prove_on_the_nas(sent)

    def heading(self, title, remark):
        self.step += 1
        screen.heading(self.step, title, remark)

    def check(self):
        self.heading("Will it work?", f"The configuration is validated, and the {self.nas.word} is asked what it can do.")
        self.workstation.run("check")

    def gate(self):
        self.heading(
            "The gate", "Before anything is sent, every run is looked through for leftovers and names that would break on the NAS. "
            "Nothing is written."
        )  # fmt: skip
        blocked = {}
        for run in self.runs:
            code, document = self.workstation.ask("gate", run, expect=(0, 3))
            if code == 3:
                blocked[run] = hard_findings(document)
        code = self.workstation.run("gate", *self.runs, expect=(3,) if blocked else (0,))
        if not self.is_own_tree and blocked != {self.expected_block: ["unresolved_placeholder_token"]}:
            raise Failed(f"the gate should block {self.expected_block} for its placeholder, and blocks {blocked}")
        screen.outcome(f"Exit code {code}: {len(blocked) or 'no'} of {len(self.runs)} runs blocked, with the reason and the next step")
        return blocked

    def queue_and_send(self, blocked):
        self.heading("Into the queue", "The queue is a file that survives a power cut. Blocked runs do not get in.")
        self.workstation.run("enqueue", *self.runs, expect=(3,) if blocked else (0,))
        self.heading(
            "Send and prove", f"{self.nas.sending} " + ("" if self.is_own_tree else " (Limited to 40 Mbit/s an instrument, so that there is something to see.)")
        )  # fmt: skip
        # 3: a run that the gate stopped is still waiting for somebody.
        self.workstation.run("drain", expect=(0, 3) if blocked else (0,))
        self.workstation.run("status")
        self.heading("Verify", f"The administrator's check: the manifest against the workstation and against the {self.nas.word}, file by file.")
        passed = [run for run in self.runs if run not in blocked]
        if passed:
            self.workstation.run("verify", *passed)
            screen.outcome("Exit code 0: every digest matches on both sides")

    def override(self, blocked):
        self.heading(
            "A person decides", "The blocked run stays where it is until somebody mends it, or says in their own words why it may go. "
            "The reason is kept in the run's record and in the receipt on the NAS."
        )  # fmt: skip
        passed = []
        for run, classes in blocked.items():
            reason = "Sample ids of this pilot are in the LIMS only" if not self.is_own_tree else "Shown by the demo, on a copy"
            codes = [
                self.workstation.run(
                    "override", "add", run, "--class", name, "--reason", reason, expect=(0, 2, 3) if self.is_own_tree else (0,)
                )
                for name in classes
            ]
            if classes and not any(codes):
                passed.append(run)
            else:
                screen.note(f"{run} cannot be let through like that and stays blocked")
            if self.is_own_tree:
                break
        if passed:
            self.workstation.run("override", "list", passed[0])
            self.workstation.run("enqueue", *passed)
            self.workstation.run("drain", expect=(0, 3) if self.is_own_tree else (0,))
        return passed

    def corrupt_and_restore(self, run):
        victim = self._file_on_the_nas(run)
        name = os.path.basename(victim)
        self.heading(f"One byte changes on the {self.nas.word}", f"A bit changes in {name}. {self.nas.unseen}")
        screen.note(self.nas.flip(victim))
        self.workstation.run("verify", run, expect=(4,))
        _, document = self.workstation.ask("verify", run, expect=(4,))
        if name not in str(document):
            raise Failed(f"verify found a mismatch but did not name {name}")
        screen.outcome(f"Exit code 4: the file is named ({name})")
        self.nas.flip(victim)
        screen.note("the byte is put back")
        self.workstation.run("verify", run)
        screen.outcome("Exit code 0 again")

    def records(self, sent, blocked):
        self.heading("What wants a person, and what happened", "Nothing is lost in a log: the queue knows what is open and what was done.")
        self.workstation.run("problems")
        self.workstation.run("history", next((run for run in sent if run in blocked), sent[0]))

    def prove_on_the_nas(self, sent):
        self.heading("Without NASSync", self.nas.place)
        leftovers = [name for name in self.nas.files() if "/.nassync-" in f"/{name}"]
        if leftovers:
            raise Failed(f"something was left on the {self.nas.word} that nobody should see: {leftovers[0]}")
        seen = self.nas.look()
        for run in sent:
            folder = seen / pathlib.Path(run).relative_to("lab")
            manifest = f"{METADATA}/checksums.sha256"
            if len(sent) <= 8:
                screen.command(["cd", str(folder.relative_to(self.nas.base))], ["sha256sum", "-c", "--strict", "--quiet", manifest])
            if not (folder / manifest).is_file():
                raise Failed(f"{folder} has no manifest")
            result = subprocess.run(["sha256sum", "-c", "--strict", "--quiet", manifest], cwd=folder, stdin=subprocess.DEVNULL)
            if result.returncode != 0:
                raise Failed(f"sha256sum does not accept the manifest of {folder}")
            difference = subprocess.run(
                ["diff", "-rq", f"--exclude={METADATA}", str(self.workstation.folder / run), str(folder)],
                stdin=subprocess.DEVNULL, capture_output=True, text=True,
            )  # fmt: skip
            # A lab's own tree may hold files that the profile excludes; in the demo's, both sides are the same.
            if difference.returncode != 0 and not self.is_own_tree:
                raise Failed(f"the {self.nas.word} does not hold what the instrument wrote: {difference.stdout.strip()}")
        screen.outcome(f"sha256sum accepts all {len(sent)} runs on the {self.nas.word}")

    def _file_on_the_nas(self, run):
        """The largest file of the published run outside its metadata folder."""
        place = str(pathlib.Path(run).relative_to("lab")) + "/"
        files = [
            (name, size) for name, size in self.nas.files().items()
            if name.startswith(place) and METADATA not in pathlib.Path(name[len(place) :]).parts and size > 0
        ]  # fmt: skip
        if not files:
            raise Failed(f"the {self.nas.word} holds no file of {run}")
        # Of a lab's own files rather one whose name is shown as it is, so that it can be looked for in what `verify` says.
        return max(files, key=lambda file: (file[0].isascii() and file[0].isprintable(), file[1], file[0]))[0]


def summarise(nas, runs, seconds, own_tree):
    files = nas.files()
    published = [name for name in files if name.endswith(f"/{METADATA}/checksums.sha256")]
    print(flush=True)
    screen.title("═" * 78)
    screen.outcome(
        f"{len(published)} of {len(runs)} runs are on the {nas.word}, proven: {len(files)} files, "
        f"{screen.size(sum(files.values()))}. The tour took {seconds:.0f} s."
    )
    if own_tree:
        screen.note("Your own tree was only read. To set it up for good: nassync init ~/nassync")
    else:
        screen.note("With runs of your own, which are copied and never changed:  make demo RUNS=/path/to/lab-tree")
        screen.note("To keep what this one made:                                 make demo KEEP=1")


def _make_writable_and_retry(function, path, _):
    """A lab's tree may hold folders that nobody may write to; the copy of them has to go all the same."""
    os.chmod(os.path.dirname(path), 0o700)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, 0o700)
    if function is os.open or function is os.scandir or function is os.lstat:
        shutil.rmtree(path)
    else:
        function(path)


if __name__ == "__main__":
    sys.exit(main())
