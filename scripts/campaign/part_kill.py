"""Part 1: killed at random moments and at chosen system calls, in every command that changes anything, and again while it recovers."""

import os
import time

from checker import Checker, tree
from faults import Profile, killing
from lab import METADATA, Workstation, seeded
from nas_side import DRIVERS

# Of a killed command's successor, how often it is killed, too.
_AGAIN = 0.35
_RUNS_PER_CASE = 2
MANY, MANY_FILES = " of many files", 2_600
# What some runs have besides, how many of them, and how: a file that several sessions write at once, one that is hashed while it is written, or so
# many small files that they go in one stream.
_EXTRAS = (
    (0.1, " of a large file", lambda run, random_: run.put(b"raw/large.bin", random_.randbytes(72_000_000))),
    (0.03, " of a followed file", lambda run, random_: run.put(b"raw/followed.bin", random_.randbytes(140_000_000))),
    (0.2, MANY, lambda run, random_: run.put_many(random_, MANY_FILES)),
)
# A stream of so many lasts some tenths of a second; how often a moment is looked for while one is being unpacked, and how long after its beginning.
_IN_STREAM, STREAM_SECONDS = 0.8, 0.25


class KillPart:
    """A case is a workstation with a few runs; each goes its whole way, killed at every station."""

    drivers = DRIVERS
    unavailable = ""
    name = "kill"

    def __init__(self, campaign, side):
        self.campaign, self.side = campaign, side
        self.life, self.profiles = Life, {}

    def prepare(self, folder):
        """Learns what undisturbed runs of the commands do, so that kills are drawn from what there is to hit."""
        known = self.campaign.profiles.get(self.side.driver)
        if known:
            self.profiles = known
            return
        workstation = Workstation(folder, self.campaign.program, self.side.place(folder.name))
        random_ = seeded("profile")
        for attempt in ("FIRST", "SECOND"):
            run = workstation.make_run(random_, attempt, links=self.side.keeps_links)
            # The second time is the usual one: the queue is there, and the destination is known.
            for command in (("enqueue", run.argument), ("drain",), ("cleanup", run.argument), ("restore", run.argument, f"back-{attempt}")):
                self.profiles[command[0]] = Profile.of(workstation, *command)
        workstation.place.remove()
        self.campaign.profiles[self.side.driver] = self.profiles

    def case(self, case):
        place = case.side.place(f"{self.name}-{case.number}")
        workstation = Workstation(case.folder / "workstation", case.program, place, transport={"connections": 3})
        case.workstations.append(workstation)
        for number in range(1 if case.campaign.short else _RUNS_PER_CASE):
            self.life(self, case, workstation, f"P{number}").go()
            if case.violations:
                return
        # Whoever looks at the NAS next removes what the dead left of their looking.
        result = workstation.run("check")
        if result.code != 0:
            case.violation(f"check: {result}")
        case.violation(*Checker(workstation, case.side.in_place).left_behind())


class Life:
    """One run's way from the instrument to the NAS and back."""

    def __init__(self, part, case, workstation, name):
        self.part, self.case, self.workstation = part, case, workstation
        self.random = case.random
        self.checker = Checker(workstation, case.side.in_place)
        self.run = workstation.make_run(self.random, name, links=case.side.keeps_links)
        # In words; empty for most.
        self.extra = ""
        draw = self.random.random()
        for chance, words, add in _EXTRAS if case.side.driver != "s3" else ():
            if 0 <= draw < chance:
                self.extra = words
                add(self.run, self.random)
            draw -= chance

    def go(self):
        self.station("enqueue", self.run.argument, chance=0.3)
        if not self.station("drain", states=("verified",)):
            return
        if self.random.random() < 0.3:
            self.run.add_files(self.random, self.random.randrange(1, 5))
            self.must("enqueue", self.run.argument)
            if not self.station("drain", states=("verified",)):
                return
        if self.random.random() < 0.25 and not self.audit():
            return
        if self.random.random() < 0.3 and not self.repair():
            return
        if not self.station("cleanup", self.run.argument, states=("cleaned",)):
            return
        self.restore()

    # One station: killed, perhaps killed again, then undisturbed

    def station(self, *command, states=(), chance=1.0):
        """Returns whether all is well."""
        if self.random.random() < chance and self.killed(*command):
            while self.random.random() < _AGAIN and self.killed(*command, again=True):
                pass
        self.must(*command)
        if states and not self.case.violations:
            self.violation(self.checker.after_recovery(self.run, *states))
        return not self.case.violations

    def must(self, *command):
        """Runs a command undisturbed; it has to end well."""
        result = self.workstation.run(*command)
        # What a dead worker had begun may be waiting for its next attempt; over the system's ssh it may be that which was killed, and the
        # failure of a connection waits for its time.
        for _ in range(8):
            if result.code != 75:
                break
            time.sleep(0.4)
            result = self.workstation.run(*command)
        if result.hung:
            self.case.violation(f"HUNG: {result}")
        elif result.code != 0:
            self.case.violation(f"not recovered: {result}")
        return result

    def killed(self, *command, again=False):
        """Runs a command and kills it; returns whether it was hit before its end. What must hold at any time is looked at."""
        profile = self.part.profiles[command[0] if command[0] in self.part.profiles else "drain"]
        if self.aims_at_stream(command):
            moment = self.random.random() * STREAM_SECONDS
            result = self.workstation.run(*command, kill_after=moment, once=self.workstation.place.unpacks)
            how = f"with {self.unpacked()} files of a stream"
        elif self.random.random() < (0.8 if self.extra else 0.35):
            # What is large is sent for the better part of a second, and hashed for as long.
            moment = self.random.uniform(0.02, profile.seconds * 0.8 + (1.5 if self.extra and command[0] == "drain" else 0))
            result = self.workstation.run(*command, kill_after=moment)
            how = "at a moment"
        else:
            call, number = profile.draw_kill(self.random)
            result = self.workstation.run(*command, before=killing(call, number))
            how = f"at a call of {call}"
        if result.hung:
            self.case.violation(f"HUNG: {result}")
        self.violation(self.checker.at_any_time())
        if result.killed:
            self.case.trial(f"{'again in ' if again else ''}{self.where(command[0])}{self.extra}")
            self.case.labels[how] += 1
        return result.killed and not self.case.violations

    def aims_at_stream(self, command):
        """Whether the moment is to fall into a stream of small files, where there is one."""
        return command[0] == "drain" and self.extra == MANY and self.case.side.has_shell and self.random.random() < _IN_STREAM

    def unpacked(self):
        """How many of the many small files have arrived, in words."""
        # Staged or published, it lies below its own project; another run of the case has its own.
        names = self.workstation.place.names(os.path.dirname(self.run.remote))
        count = sum(b"/many/" in name and name.endswith(b".dat") for name in names)
        return "no" if count == 0 else "all" if count >= MANY_FILES else "some"

    def violation(self, texts):
        self.case.violation(*[f"after {self.workstation.log[-1].splitlines()[0]}: {text}" for text in texts])

    def where(self, command):
        """Which step the program died in, as far as its traces tell."""
        jobs = (self.checker.queue() or {}).get(os.fsencode(self.run.path), [])
        if command != "drain" or not jobs:
            return command
        state = jobs[-1]["state"]
        if state != "awaiting_verify":
            return {"queued": "claim", "running": "upload", "verified": "settle"}.get(state, state)
        text = self.workstation.place.get(self.run.remote + f"/{METADATA}/receipt.json".encode())
        if text is None or jobs[-1]["id"].encode() not in text:
            return "verification"
        return "publish" if f"{METADATA}/checksums.sha256".encode() not in (tree(self.run.path) or {}) else "record rewrite"

    # Stations that are more than one command

    def audit(self):
        """The service verifies again what is published; it is killed in that."""
        moment = self.random.uniform(0.3, 2.2)
        if self.random.random() < 0.5:
            call, number = self.part.profiles["cleanup"].draw_kill(self.random)
            result = self.workstation.run("serve", before=killing(call, number), kill_after=3.5)
        else:
            result = self.workstation.run("serve", kill_after=moment)
        if result.killed:
            self.case.trial("audit")
        return self.after_audit()

    def after_audit(self):
        """What is left of one that was broken off; returns whether all is well."""
        self.violation(self.checker.at_any_time())
        self.must("drain")
        if not self.case.violations:
            self.violation(self.checker.after_recovery(self.run, "verified", "cleanup_eligible"))
        return not self.case.violations

    def repair(self):
        """A file on the NAS changes, the run is sent again from here, and that is killed: what was wrong is kept aside there."""
        place = self.workstation.place
        name = self.random.choice([name for name, content in self.run.files.items() if content])
        content = bytearray(self.run.files[name])
        content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
        wrong = bytes(content)
        place.put(self.run.remote + b"/" + name, wrong)
        found = self.workstation.run("cleanup", self.run.argument)
        if found.code != 4:
            self.case.violation(f"a changed file on the NAS was not found: {found}")
            return False
        self.must("retry", self.run.argument)
        # Until it is repaired the published run is wrong, by our own hand: what is looked at is the end.
        profile = self.part.profiles["drain"]
        call, number = profile.draw_kill(self.random)
        if self.workstation.run("drain", before=killing(call, number)).killed:
            self.case.trial("repair")
        self.must("drain")
        aside = [path for path in place.names() if b"/.nassync-replaced-" in b"/" + path and not path.endswith(b"/")]
        if not any(place.get(path) == wrong for path in aside):
            self.case.violation(f"what lay on the NAS as {name!r} was not kept aside: {aside}")
        self.violation(self.checker.after_recovery(self.run, "verified"))
        return not self.case.violations

    def restore(self):
        """Brought back from the NAS, into a new folder."""
        folder = self.workstation.folder / f"back-{self.run.relative.split('/')[1]}"
        command = ("restore", self.run.argument, str(folder))
        if self.killed(*command):
            self.violation(self.checker.restored(self.run, folder, complete=False))
            while self.random.random() < _AGAIN and self.killed(*command, again=True):
                self.violation(self.checker.restored(self.run, folder, complete=False))
        whole = self.checker.restored(self.run, folder, complete=True)
        # Where the dead one had just finished, the folder is a whole run, which is never written into.
        if whole or not folder.exists():
            self.must(*command)
            whole = self.checker.restored(self.run, folder, complete=True)
        self.violation(whole)
