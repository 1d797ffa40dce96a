"""The promise, looked at independently of the program: an own walk and hash of both sides, an own reading of manifest and receipt, an own SQL.

A violation is a sentence. Nothing here asks the program anything.
"""

import hashlib
import json
import os
import re
import sqlite3
import stat

from lab import BOOKKEEPING, FOREIGN_KEYS, METADATA
from nas_side import is_folder

_MANIFEST = f"{METADATA}/checksums.sha256".encode()
_RECEIPT = f"{METADATA}/receipt.json".encode()
_RECORD = f"{METADATA}/creation.json".encode()
_OWN_PREFIX = b".nassync-"
# What a program that looks at a NAS leaves for a moment; the next one that looks removes what a dead one left.
_PROBES = b".nassync-probe-"
# Every transition that there is (Specs/states.md), and the registration.
_TRANSITIONS = {
    (None, "queued"), ("queued", "running"), ("running", "queued"), ("running", "awaiting_verify"), ("running", "failed"),
    ("awaiting_verify", "failed"), ("awaiting_verify", "verified"), ("awaiting_verify", "queued"), ("verified", "failed"),
    ("cleanup_eligible", "failed"), ("verified", "cleanup_eligible"), ("cleanup_eligible", "cleaned"), ("failed", "queued"),
}  # fmt: skip
_ACTIVE = {"queued", "running", "awaiting_verify"}
_PUBLISHED = {"verified", "cleanup_eligible", "cleaned"}


class MalformedManifest(ValueError):
    """A text is no manifest."""


def digest(content):
    return hashlib.sha256(content).hexdigest()


def parse_manifest(text):
    """{path: hex digest} of a text in the format of GNU sha256sum. Raises MalformedManifest."""
    listed = {}
    if text and not text.endswith(b"\n"):
        raise MalformedManifest("its last line has no end")
    for line in text.split(b"\n")[:-1]:
        match = re.fullmatch(rb"(\\?)([0-9a-f]{64}) [ *](.+)", line, re.DOTALL)
        if not match:
            raise MalformedManifest(f"the line {line!r}")
        name = match[3]
        if match[1]:
            name = re.sub(rb"\\(.)", lambda found: {b"n": b"\n", b"r": b"\r", b"\\": b"\\"}[found[1]], name)
        name = name.removeprefix(b"./")
        if name in listed or name.startswith(b"/") or b".." in name.split(b"/"):
            raise MalformedManifest(f"the name {name!r}")
        listed[name] = match[2].decode()
    return listed


def tree(root):
    """{path: content, or ("link", target), or ("folder",), or ("other",)} of a folder on this machine; None where it is none."""
    root = os.fsencode(root)
    if not is_folder(root):
        return None
    found = {}
    for parent, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, root)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                found[relative] = ("link", os.readlink(path))
            elif stat.S_ISDIR(mode):
                found[relative] = ("folder",)
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    found[relative] = file.read()
            else:
                found[relative] = ("other",)
    return found


def history_violations(job):
    """What is wrong with the steps that a job says it went."""
    found, state = [], None
    for event, before, after, _ in job["history"]:
        if after is None:
            continue
        # What changes no state is told as a step to where the job is: a claim of what awaits its verification, a new snapshot, an audit.
        if before != state or ((before, after) not in _TRANSITIONS and before != after):
            found.append(f"its history goes from {state} to {after} ({event}, which says from {before})")
        state = after
    if state != job["state"]:
        found.append(f"its history ends {state}, and the job is {job['state']}")
    return found


class Checker:
    """Looks at one workstation and its place on the NAS."""

    def __init__(self, workstation, in_place):
        self.workstation = workstation
        self.in_place = in_place

    # What holds at every moment

    def at_any_time(self):
        """Violations of what must hold whatever died when."""
        queue = self.queue()
        found = self.queue_violations(queue)
        for run in self.workstation.runs:
            found += [f"{run.relative}: {text}" for text in self._run_at_any_time(run, queue)]
        return found

    def _run_at_any_time(self, run, queue):
        found = []
        published, problems = self.published(run)
        found += problems
        local = tree(run.path) or {}
        for name, content in run.files.items():
            if local.get(name) == content:
                continue
            # It is gone from its name here: then the NAS holds it, under its published name, and says so.
            if published is None:
                found.append(f"LOST: {name!r} is neither whole here nor published on the NAS")
            elif published.get(name) != digest(content):
                found.append(f"LOST: {name!r} is not whole here, and the manifest on the NAS does not list it as it was")
        found += self._local_record(local)
        jobs = queue.get(os.fsencode(run.path), []) if queue else []
        if jobs and jobs[-1]["state"] in _PUBLISHED:
            found += self._published_as_the_queue_says(run, jobs, published)
            if jobs[-1]["state"] != "cleaned" and "cleanup_started" not in jobs[-1]["events"]:
                found += [f"{name!r} is gone here, and the queue noted no clean-up" for name in run.files if name not in local]
        return found

    def published(self, run):
        """What readers of the NAS take for the run: {path: digest} of its manifest, every file of it compared with what was once written
        here; None where no run is to be seen. And what is wrong with that."""
        place, found = self.workstation.place, []
        # The manifest first: what it lists must be there from then on, whatever is added meanwhile.
        text = place.get(run.remote + b"/" + _MANIFEST)
        if text is None:
            if not self.in_place and place.is_there(run.remote):
                # The folder may have appeared between the two looks.
                text = place.get(run.remote + b"/" + _MANIFEST)
                if text is None:
                    return None, ["HALF RUN: the folder is published without a manifest"]
            if text is None:
                return None, []
        try:
            listed = parse_manifest(text)
        except MalformedManifest as problem:
            return None, [f"HALF RUN: the manifest on the NAS is none: {problem}"]
        if not listed:
            found.append("HALF RUN: the manifest on the NAS is empty")
        for name, expected in listed.items():
            content = place.get(run.remote + b"/" + name)
            if content is None:
                found.append(f"HALF RUN: {name!r} is in the manifest and not on the NAS")
            elif digest(content) != expected:
                found.append(f"HALF RUN: {name!r} on the NAS is not what the manifest says")
            if name not in run.files or digest(run.files[name]) != expected:
                found.append(f"the manifest lists {name!r} with what never was in the run")
        first = run.generations[0]
        found += [f"HALF RUN: {name!r} of the first generation is not in the manifest" for name in first if name not in listed]
        record = place.get(run.remote + b"/" + _RECORD)
        receipt = place.get(run.remote + b"/" + _RECEIPT)
        found += [f"HALF RUN: the NAS has no {what}" for what, content in (("record", record), ("receipt", receipt)) if content is None]
        if record is not None:
            found += self._record(record, "on the NAS", {"synced"})
        if receipt is not None and len(run.generations) == 1:
            found += self._receipt(receipt, text, record)
        return listed, found

    @staticmethod
    def _receipt(receipt, manifest, record):
        try:
            said = json.loads(receipt)
        except ValueError:
            return ["the receipt on the NAS is no JSON"]
        found = []
        if said.get("manifest_sha256") != digest(manifest):
            found.append("the receipt on the NAS is of another manifest")
        if record is not None and said.get("record_sha256") != digest(record):
            found.append("the receipt on the NAS is of another record")
        return found

    @staticmethod
    def _record(content, where, states):
        try:
            record = json.loads(content)
        except ValueError:
            return [f"the record {where} is no JSON: {content[:80]!r}"]
        found = [f"the record {where} lost {key!r}" for key, value in FOREIGN_KEYS.items() if record.get(key) != value]
        if record.get("sync_status") not in states:
            found.append(f"the record {where} says {record.get('sync_status')!r}")
        return found

    def _local_record(self, local):
        record = local.get(_RECORD)
        if record is None:
            return ["the record is gone here"]
        return self._record(record, "here", {"pending", "synced", "cleaned", "failed", "blocked_by_validation"})

    @staticmethod
    def _published_as_the_queue_says(run, jobs, published):
        if published is None:
            return [f"the queue says {jobs[-1]['state']}, and the NAS has no such run"]
        found, newest = [], jobs[-1]
        expected = run.generations[min(newest["generation"], len(run.generations)) - 1]
        found += [f"the queue says {newest['state']}, and the manifest has no {name!r}" for name in expected if name not in published]
        for name, component in newest["components"].items():
            content = run.files.get(name)
            if component["kind"] != 0 or content is None:
                continue
            for which in ("local_digest", "remote_digest"):
                if component[which] and component[which].hex() != digest(content):
                    found.append(f"the queue has a wrong {which} of {name!r}")
        return found

    # The queue file

    def queue(self):
        """{run path: its jobs by generation} of a copy of the file, None where there is none; each job with its history and components."""
        copy = self.workstation.sqlite(self.workstation.folder / "queue-copy")
        if copy is None:
            return None
        jobs = {}
        connection = sqlite3.connect(copy)
        connection.row_factory = sqlite3.Row
        try:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'job'").fetchone():
                return {}
            self.integrity = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            self.foreign = connection.execute("PRAGMA foreign_key_check").fetchall()
            for row in connection.execute("SELECT * FROM job ORDER BY run_path, generation"):
                job = dict(row)
                history = connection.execute(
                    "SELECT event, from_state, to_state, detail FROM history WHERE job = ? ORDER BY sequence", (job["number"],)
                ).fetchall()
                job["history"] = [tuple(step) for step in history]
                job["events"] = [step[0] for step in history]
                job["components"] = {
                    bytes(item["path"]): dict(item)
                    for item in connection.execute("SELECT * FROM component WHERE job = ?", (job["number"],))
                }
                jobs.setdefault(os.fsencode(job["run_path"]), []).append(job)
        finally:
            connection.close()
        return jobs

    def queue_violations(self, queue):
        if not queue:
            return []
        found = []
        if self.integrity != ["ok"]:
            found.append(f"the queue file is damaged: {self.integrity[:2]}")
        if self.foreign:
            found.append("the queue file has rows that hang in the air")
        known = {os.fsencode(run.path): run for run in self.workstation.runs}
        for path, jobs in queue.items():
            run = known.get(path)
            if run is None:
                found.append(f"the queue has a job of {path!r}, which nobody asked for")
                continue
            if [job["generation"] for job in jobs] != list(range(1, len(jobs) + 1)) or len(jobs) > len(run.generations):
                found.append(f"DOUBLED: {run.relative} has the generations {[job['generation'] for job in jobs]}")
            if sum(job["state"] in _ACTIVE for job in jobs) > 1:
                found.append(f"DOUBLED: {run.relative} is on its way twice")
            for job in jobs:
                found += [f"{run.relative}: {text}" for text in history_violations(job)]
        return found

    # What holds once it ran without faults

    def after_recovery(self, run, *states, told=False):
        """Violations of what must hold of a run once everything was run again undisturbed. `states`: one of which the newest job has. `told`:
        what the program could not write into the run's own metadata folder it has said, and does not try again."""
        found = self.at_any_time()
        queue = self.queue() or {}
        jobs = queue.get(os.fsencode(run.path), [])
        if len(jobs) != len(run.generations):
            found.append(f"FORGOTTEN: {run.relative} has {len(jobs)} jobs for {len(run.generations)} generations")
        state = jobs[-1]["state"] if jobs else None
        if state not in states:
            found.append(f"STRANDED: {run.relative} is {state or 'nowhere'} and should be {states[0]}")
        published, _ = self.published(run)
        if published is None or set(published) != set(run.files):
            missing = sorted(set(run.files) - set(published or {}))
            found.append(f"the manifest on the NAS does not list the run: {missing[:3]} missing")
        found += self._links_and_folders(run)
        if jobs and published is not None:
            manifest = self.workstation.place.get(run.remote + b"/" + _MANIFEST)
            receipt = self.workstation.place.get(run.remote + b"/" + _RECEIPT)
            record = self.workstation.place.get(run.remote + b"/" + _RECORD)
            if jobs[-1]["manifest_digest"] != hashlib.sha256(manifest).digest():
                found.append("the queue knows another manifest than lies on the NAS")
            if jobs[-1]["receipt_digest"] != hashlib.sha256(receipt or b"").digest():
                found.append("the queue knows another receipt than lies on the NAS")
            found += self._receipt(receipt or b"", manifest, record)
        found += self._local_after_recovery(run, state, told)
        return found + self.left_behind(_PROBES)

    def left_behind(self, *but):
        """Things of the program's own on the NAS that nobody should see once all is done. What a repair moved aside is to stay."""
        own = re.compile(rb"(?:^|/)(\.nassync-[^/]*)")
        names = {match[1] for name in self.workstation.place.names() for match in own.finditer(name)}
        return [f"left behind on the NAS: {name!r}" for name in sorted(names) if not name.startswith((b".nassync-replaced-", *but))]

    def _links_and_folders(self, run):
        place, found = self.workstation.place, []
        if run.links or (run.folders and not self.in_place):
            names = set(place.names(run.remote))
            for link in run.links:
                if run.remote + b"/" + link not in names:
                    found.append(f"the link {link!r} is not on the NAS")
            for folder in run.folders if not self.in_place else ():
                if run.remote + b"/" + folder + b"/" not in names:
                    found.append(f"the folder {folder!r} is not on the NAS")
        return found

    @staticmethod
    def _local_after_recovery(run, state, told):
        local, found = tree(run.path) or {}, []
        data = [name for name, content in local.items() if isinstance(content, bytes) and not name.startswith(METADATA.encode() + b"/")]
        if state == "cleaned":
            found += [f"{name!r} was not cleaned" for name in data]
        else:
            found += [f"{name!r} is not whole here" for name, content in run.files.items() if local.get(name) != content]
        found += [f"left behind here: {name!r}" for name in local if _OWN_PREFIX in name]
        if told:
            return found
        record = json.loads(local.get(_RECORD) or b"{}")
        wanted = "cleaned" if state == "cleaned" else "synced"
        if record.get("sync_status") != wanted:
            found.append(f"the record here says {record.get('sync_status')!r} and should say {wanted!r}")
        for name in (_MANIFEST, _RECEIPT):
            if not isinstance(local.get(name), bytes):
                found.append(f"{name!r} is not kept here")
        return found

    @staticmethod
    def restored(run, folder, complete):
        """Violations of what holds in a folder that a run is brought back to: no name stands for other bytes; `complete`: all are there."""
        there, found = tree(folder) or {}, []
        for name, content in there.items():
            if not isinstance(content, bytes) or name in BOOKKEEPING:
                continue
            if name.startswith(METADATA.encode() + b"/" + _OWN_PREFIX):
                if complete:
                    found.append(f"left behind in the restored run: {name!r}")
            elif run.files.get(name) != content:
                found.append(f"restored {name!r} is not what was sent")
        if complete:
            found += [f"{name!r} was not restored" for name in run.files if there.get(name) != run.files[name]]
        return found
