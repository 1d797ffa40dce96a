"""Part 4: what lies on the NAS is no longer what was published. Every change must be found by `verify`, by an audit of the service and by the
clean-up, each of which names the file; nothing may be removed here; and a run that nobody touched must not be suspected."""

import hashlib
import os
import time

from checker import Checker, tree
from lab import METADATA, Settings, Workstation
from nas_side import PROTOCOLS

_MANIFEST, _RECEIPT, _RECORD = (f"{METADATA}/{name}".encode() for name in ("checksums.sha256", "receipt.json", "creation.json"))
# Where drivers and servers cut what they carry.
_EDGES = (4096, 32_768, 65_536, 131_072, 261_120, 262_144)
_BATCH = 40
# Of a batch, how many runs nobody touches.
_UNTOUCHED = 0.1
# Single bits and bytes of the data are what a disk or a memory loses.
_WEIGHTS = {"bit_first": 3, "bit_last": 3, "bit_random": 3, "bit_chunk_edge": 5, "truncated_by_one": 2, "extended_by_one": 2, "swapped": 3, "zeroed_tail": 2}


class CorruptionPart:
    """A case is a workstation with a batch of published runs, of which nearly each is changed in one way."""

    drivers = PROTOCOLS
    unavailable = ""

    def __init__(self, campaign, side):
        self.batch = 12 if campaign.short or side.driver == "s3" else _BATCH

    def prepare(self, folder):
        """Nothing to learn beforehand."""

    def case(self, case):
        _Batch(case, self.batch).go()


class _Damage:
    """One change of one run's copy."""

    def __init__(self, kind, names, sentence):
        self.kind, self.names, self.sentence = kind, names, sentence


class _Batch:
    def __init__(self, case, count):
        self.case, self.random = case, case.random
        self.workstation = Workstation(
            case.folder / "workstation", case.program, case.side.place(f"corruption-{case.number}"), Settings(verify={"audit_interval": "2s"})
        )
        case.workstations.append(self.workstation)
        self.place = self.workstation.place
        self.checker = Checker(self.workstation, case.side.in_place)
        self.runs = [
            self.workstation.make_run(self.random, f"P{number}", files=self.random.randrange(3, 7), large=number % 2 == 0)
            for number in range(count)
        ]
        self.damage = {}

    def go(self):
        for command in (("enqueue", *(run.argument for run in self.runs)), ("drain",)):
            result = self.workstation.run(*command, timeout=300)
            if result.code != 0:
                self.case.violation(f"could not be prepared: {result}")
                return
        for run in self.runs:
            if self.random.random() >= _UNTOUCHED:
                self.damage[run] = self._corrupt(run)
        self._verify()
        self._would_be_cleaned()
        # Found first by the one or by the other: a run that has failed is kept for that reason alone.
        steps = [self._audit, self._clean]
        if self.random.random() < 0.5:
            steps.reverse()
        for step in steps:
            step()
        self._still_here()
        for damage in self.damage.values():
            self.case.trial(damage.kind)

    # What is done to the copies

    def _corrupt(self, run):
        kinds = [name.removeprefix("_do_") for name in dir(self) if name.startswith("_do_")]
        while True:
            kind = self.random.choices(kinds, [_WEIGHTS.get(kind, 1) for kind in kinds])[0]
            done = getattr(self, f"_do_{kind}")(run)
            if done:
                return _Damage(kind.replace("_", " "), *done)

    def _file(self, run, least=1):
        """A file of the run with at least so many bytes, and what it holds; None where there is none."""
        names = sorted(name for name, content in run.files.items() if len(content) >= least)
        if not names:
            return None, b""
        name = self.random.choice(names)
        return name, run.files[name]

    def _put(self, run, name, content):
        self.place.put(run.remote + b"/" + name, content)

    def _flip(self, run, name, content, position):
        changed = bytearray(content)
        changed[position] ^= 1 << self.random.randrange(8)
        self._put(run, name, bytes(changed))
        return [name], f"a bit of byte {position} of {len(content)}"

    def _do_bit_first(self, run):
        name, content = self._file(run)
        return name and self._flip(run, name, content, 0)

    def _do_bit_last(self, run):
        name, content = self._file(run)
        return name and self._flip(run, name, content, len(content) - 1)

    def _do_bit_random(self, run):
        name, content = self._file(run)
        return name and self._flip(run, name, content, self.random.randrange(len(content)))

    def _do_bit_chunk_edge(self, run):
        edge = self.random.choice(_EDGES)
        name, content = self._file(run, edge + 1)
        return name and self._flip(run, name, content, edge - self.random.randrange(2))

    def _do_truncated_by_one(self, run):
        name, content = self._file(run)
        return name and (self._put(run, name, content[:-1]), ([name], "one byte less"))[1]

    def _do_extended_by_one(self, run):
        name, content = self._file(run, 0)
        return name and (self._put(run, name, content + self.random.choice((b"\0", b"\n", b"x"))), ([name], "one byte more"))[1]

    def _do_emptied(self, run):
        name, _ = self._file(run)
        return name and (self._put(run, name, b""), ([name], "no byte left"))[1]

    def _do_zeroed_tail(self, run):
        name, content = self._file(run, 16)
        if not name:
            return None
        count = min(len(content), self.random.choice((8, 512, 4096, 65_536)))
        if not any(content[-count:]):
            return None
        self._put(run, name, content[:-count] + bytes(count))
        return [name], f"zeros for its last {count} bytes"

    def _do_swapped(self, run):
        one, content = self._file(run)
        other, other_content = self._file(run)
        if not one or content == other_content:
            return None
        self._put(run, one, other_content)
        self._put(run, other, content)
        return [one, other], "each has the other's bytes"

    def _do_stale(self, run):
        """An older version of the same size."""
        name, content = self._file(run, 8)
        if not name:
            return None
        self._put(run, name, self.random.randbytes(len(content)))
        return [name], "another content of the same size"

    def _do_missing_file(self, run):
        name, _ = self._file(run, 0)
        self.place.delete(run.remote + b"/" + name)
        return [name], "gone"

    def _do_missing_all(self, run):
        for name in run.files:
            self.place.delete(run.remote + b"/" + name)
        return [sorted(run.files)[0]], "all files gone"

    def _do_extra_file(self, run):
        name = self.random.choice((b"extra.fcs", b"raw/ghost.dat", b"Thumbs.db2"))
        self._put(run, name, self.random.randbytes(self.random.randrange(0, 50)))
        return [name], "was never sent"

    def _document(self, run, name, content):
        self._put(run, name, content)
        return [name], "was edited"

    def _do_manifest_digit(self, run):
        text = bytearray(self.place.get(run.remote + b"/" + _MANIFEST))
        # Any digit of any line's digest.
        lines = bytes(text).split(b"\n")[:-1]
        number = self.random.randrange(len(lines))
        position = sum(len(line) + 1 for line in lines[:number]) + lines[number].startswith(b"\\") + self.random.randrange(64)
        text[position] = ord("0") if text[position] != ord("0") else ord("1")
        return self._document(run, _MANIFEST, bytes(text))

    def _do_manifest_line_gone(self, run):
        lines = self.place.get(run.remote + b"/" + _MANIFEST).split(b"\n")[:-1]
        lines.pop(self.random.randrange(len(lines)))
        return self._document(run, _MANIFEST, b"".join(line + b"\n" for line in lines))

    def _do_manifest_cut(self, run):
        text = self.place.get(run.remote + b"/" + _MANIFEST)
        return self._document(run, _MANIFEST, text[: self.random.randrange(len(text))])

    def _do_manifest_agrees_with_damage(self, run):
        """A file changes and somebody writes the manifest anew over it: `sha256sum -c` is content."""
        name, content = self._file(run, 1)
        changed = bytes([content[0] ^ 1]) + content[1:]
        self._put(run, name, changed)
        text = self.place.get(run.remote + b"/" + _MANIFEST)
        text = text.replace(hashlib.sha256(content).hexdigest().encode(), hashlib.sha256(changed).hexdigest().encode())
        self._put(run, _MANIFEST, text)
        return [name, _MANIFEST], "both were changed, and agree"

    def _do_manifest_missing(self, run):
        self.place.delete(run.remote + b"/" + _MANIFEST)
        return [_MANIFEST], "gone"

    def _do_receipt_edited(self, run):
        return self._document(run, _RECEIPT, self.place.get(run.remote + b"/" + _RECEIPT).replace(b'"generation" : 1', b'"generation" : 2'))

    def _do_receipt_missing(self, run):
        self.place.delete(run.remote + b"/" + _RECEIPT)
        return [_RECEIPT], "gone"

    def _do_record_edited(self, run):
        return self._document(run, _RECORD, self.place.get(run.remote + b"/" + _RECORD).replace(b"touch", b"torch"))

    def _do_record_missing(self, run):
        self.place.delete(run.remote + b"/" + _RECORD)
        return [_RECORD], "gone"

    # Who finds it

    def _missed(self, run, by, said):
        damage = self.damage[run]
        self.case.violation(f"{run.relative}: {damage.kind} ({damage.names}, {damage.sentence}) was not found or not named by {by}: {said}")

    @staticmethod
    def _names(text, names, every=False):
        found = [name.decode() in text for name in names]
        return all(found) if every else any(found)

    def _verify(self):
        """The administrator's check names every file of the change."""
        result = self.workstation.run("--json", "verify", "--all", timeout=300)
        if result.code != (4 if self.damage else 0):
            self.case.violation(f"verify ended with {result.code}: {result.err}")
            return
        reports = {report["run_path"]: report for report in result.json}
        for run in self.runs:
            report = reports[run.argument]
            if run not in self.damage:
                if not report["ok"]:
                    self.case.violation(f"{run.relative}: nobody touched it, and verify says {report['mismatches']}")
                continue
            places = [item["path"] for item in report["mismatches"] if item["place"] == "nas"]
            if report["ok"] or not all(name.decode() in places for name in self.damage[run].names):
                self._missed(run, "verify", report["mismatches"])

    def _would_be_cleaned(self):
        """The conditions of a removal, none of which is hidden by another."""
        for run, outcome in self._outcomes("--json", "cleanup", "--dry-run", *(run.argument for run in self.runs)):
            if run not in self.damage:
                if outcome["result"] != "would_clean":
                    self.case.violation(f"{run.relative}: nobody touched it, and it would be kept: {self._unmet(outcome)}")
            else:
                unmet = self._unmet(outcome)
                about = " ".join(unmet.get(name, "") for name in ("nas_copy_proven", "nas_manifest_intact"))
                if outcome["result"] != "kept" or not self._names(about, self.damage[run].names):
                    self._missed(run, "cleanup --dry-run", unmet)

    def _outcomes(self, *command):
        result = self.workstation.run(*command, timeout=300)
        try:
            outcomes = {outcome["run_path"]: outcome for outcome in result.json}
        except (ValueError, KeyError, TypeError):
            self.case.violation(f"no outcomes: {result}")
            return []
        return [(run, outcomes[run.argument]) for run in self.runs]

    @staticmethod
    def _unmet(outcome):
        return {item["name"]: item["detail"] for item in outcome["interlocks"] if not item["met"]}

    def _audit(self):
        """The service looks at each published run again by itself."""
        process = self.workstation.start("serve")
        deadline = time.monotonic() + 120
        while True:
            time.sleep(0.4)
            queue = self.checker.queue() or {}
            missed = [run for run in self.damage if not self._audited(queue, run)]
            if not missed or time.monotonic() > deadline or process.poll() is not None:
                break
        self.workstation.kill(process, 15)
        out, err = process.communicate(timeout=30)
        if process.returncode != 0:
            self.case.violation(f"the service ended with {process.returncode}: {err[-400:]!r}")
        for run in missed:
            job = queue[os.fsencode(run.path)][-1]
            self._missed(run, "the audit", (job["state"], job["error_message"], job["events"]))
        for run in self.runs:
            job = queue[os.fsencode(run.path)][-1]
            if run not in self.damage and job["state"] == "failed":
                self.case.violation(f"{run.relative}: nobody touched it, and the audit says {job['error_message']}")

    def _audited(self, queue, run):
        job = queue[os.fsencode(run.path)][-1]
        if self.damage[run].kind == "extra file":
            # Somebody else's file is no corruption of ours: it is told, and the run stays proven.
            return any(self._names(step[3], self.damage[run].names) for step in job["history"])
        return job["state"] == "failed" and job["error_kind"] == "remote_corrupted" and self._names(job["error_message"], self.damage[run].names)

    def _clean(self):
        """The operator's word removes what nobody touched, and nothing else."""
        for run, outcome in self._outcomes("--json", "cleanup", *(run.argument for run in self.runs)):
            if run not in self.damage:
                if outcome["result"] not in ("cleaned", "nothing_to_do"):
                    self.case.violation(f"{run.relative}: nobody touched it, and it was kept: {self._unmet(outcome)}")
                continue
            said = f"{self._unmet(outcome)} {outcome['error']}"
            failed = outcome["state"] == "failed" or self.damage[run].kind == "extra file"
            if outcome["result"] != "kept" or not failed or not self._names(said, self.damage[run].names):
                self._missed(run, "cleanup", said)

    def _still_here(self):
        for run in self.damage:
            local = tree(run.path) or {}
            for name, content in run.files.items():
                if local.get(name) != content:
                    self.case.violation(f"LOST: {run.relative}: {name!r} was removed although the copy on the NAS was wrong")
        self.case.violation(*self.checker.queue_violations(self.checker.queue()))
