"""Part 7: the queue file under attack. Bits flip, it is cut, swapped, locked, made read-only, or is no file at all, while clean-up is on. Nothing
may be deleted that was not proven; what is noticed is said with a documented exit code; and `recover` brings back what was known."""

import sqlite3

import queue_damage
from checker import Checker
from lab import Settings, Workstation
from nas_side import PROTOCOLS
from queue_damage import Attack
from queue_population import EXPECTED, Population

_TRIALS_PER_CASE = 24
_DOCUMENTED = {0, 1, 2, 3, 4, 75}
# Clean-up is on: only what the file says keeps the local copies. Early: nobody has waited long enough. Eager: whatever is proven may go.
EARLY = {"enabled": True, "min_verify_passes": 2, "min_age_hours": 24}
EAGER = {"enabled": True, "min_verify_passes": 1, "min_age_hours": 0}


class QueueFilePart:
    """A case is a workstation with a run in every state; its queue file is damaged again and again, and put back as it was after each look."""

    drivers = PROTOCOLS
    unavailable = ""

    def __init__(self, campaign, side):
        self.campaign, self.side = campaign, side

    def prepare(self, folder):
        """The queue file of somebody else's instrument, which is whole and knows none of these runs."""
        workstation = Workstation(folder, self.campaign.program, self.side.place(folder.name))
        for profile in (folder / "equipment").iterdir():
            profile.write_text(profile.read_text().replace("CYTOMETER_01", "SEQUENCER_09"))
        run = workstation.lab / "SEQUENCER_09" / "P" / "Runs" / "Run_2026-03-03"
        run.mkdir(parents=True)
        (run / "data.bin").write_bytes(b"data")
        if (result := workstation.run("enqueue", str(run))).code != 0:
            raise RuntimeError(f"undisturbed: {result}")
        self.foreign = (workstation.state / "queue.db").read_bytes()
        workstation.place.remove()

    def case(self, case):
        bad = case.random.random() < 0.25
        population = Population(case, EAGER if bad else EARLY)
        if not population.make():
            return
        trial = _Trial(self, case, population, bad)
        if not bad and case.random.random() < 0.3:
            trial.locked()
        for _ in range(_TRIALS_PER_CASE):
            if case.violations or not trial.go():
                return
        if not bad and not case.violations:
            trial.last()


class _Trial:
    """Damages the file, lets the program work on it, looks, recovers, looks again."""

    def __init__(self, part, case, population, bad):
        self.part, self.case, self.population, self.bad = part, case, population, bad
        self.workstation, self.random = population.workstation, case.random
        self.checker = Checker(self.workstation, case.side.in_place)
        self.what = ""

    def go(self):
        """One trial that leaves the runs and the NAS as they were; returns whether another can follow."""
        attack = self._attack()
        try:
            changes = self._commands(attack)
            self._nothing_deleted("after the commands")
            self._recover(attack)
            self._nothing_deleted("after recover")
        finally:
            attack.undo()
        if self.case.violations:
            return False
        if changes and not self.bad:
            self._to_the_end()
        if changes:
            return False
        self.population.put_back()
        return True

    def last(self):
        """At the end whatever is proven may go, on the word of a damaged file; then everything comes to its end."""
        attack = self._attack()
        self.workstation.configure(Settings(cleanup=EAGER))
        try:
            self._run(attack, "cleanup")
            self._run(attack, "drain")
            self._run(attack, "cleanup")
            self._tell(self._promise(), "with clean-up")
            self._recover(attack, strict=False)
        finally:
            attack.undo()
        if not self.case.violations:
            self._to_the_end()

    # The steps

    def _attack(self):
        self.what, attack = queue_damage.draw(self.random, self.workstation, self.population, self.part.foreign)
        self.case.trial(self.what.partition(" ")[0])
        self.workstation.log.append(f"=== {self.what}")
        return attack

    # Whether a run was enqueued as a new one.
    anew = False

    def _commands(self, attack):
        """Some commands, clean-up always; returns whether one of them may have sent something or changed what is to be sent."""
        runs = self.population.runs
        named = self.random.choice([run for state, run in runs.items() if state != "cleaned"])
        choice = [
            (("cleanup", named.argument), 4), (("status",), 2), (("status", named.argument, "--json"), 2), (("problems",), 2),
            (("history", named.argument), 1), (("verify", "--all"), 1), (("enqueue", runs["verified"].argument), 0.5),
        ]  # fmt: skip
        if not self.bad:
            # Whatever they send may be cleaned at once where clean-up is eager.
            choice += [(("drain",), 0.4), (("serve",), 0.4), (("retry", "--all-failed"), 0.2)]
        commands = [("cleanup",), *(self.random.choices([c for c, _ in choice], [w for _, w in choice])[0] for _ in range(2))]
        self.random.shuffle(commands)
        results = [self._run(attack, *command) for command in commands]
        # A queue that knows nothing takes a run as a new one, and it is its job then.
        self.anew = any(result.arguments[0] == "enqueue" and result.text.startswith("queued:") for result in results)
        return self.anew or any(command[0] in ("drain", "serve", "retry") for command in commands)

    def _run(self, attack, *command, codes=_DOCUMENTED):
        serving = command[0] == "serve"
        if serving:
            process = self.workstation.start(*command, before=attack.before)
            result = self.workstation.ended(process, command, after=self.random.uniform(1.0, 2.5))
        else:
            result = self.workstation.run(*command, before=attack.before, timeout=120)
        if result.hung:
            self.case.violation(f"HUNG: {self.what}: {result}")
        elif result.code not in codes:
            self.case.violation(f"CRASHED or undocumented: {self.what}: {result}")
        elif result.code and not result.text.strip():
            self.case.violation(f"nothing was said: {self.what}: {result}")
        elif result.code and "SQLite " in result.text and "error" not in result.text:
            self.case.violation(f"no sentence for a person: {self.what}: {result}")
        elif attack.noticed and result.code == 0 and command[0] != "recover":
            self.case.violation(f"nobody was told: {self.what}: {result}")
        return result

    def _recover(self, attack, strict=True):
        result = self._run(attack, "recover")
        aside = sorted(path.name for path in self.workstation.state.glob("queue.db.damaged-*")) if self.workstation.state.is_dir() else []
        if attack.good and [name for name in aside if name not in self.population.aside]:
            self.case.violation(f"a good file was moved aside: {self.what}: {result}")
        if attack.mend == "must" and result.code == 0:
            self.case.violation(f"nobody was told: {self.what}: {result}")
        if attack.mend:
            # The person does as told.
            attack.undo()
            result = self._run(attack, "recover")
        if result.hung or self.bad or self.case.violations:
            return
        if result.code != 0:
            self.case.violation(f"not recovered: {self.what}: {result}")
        self._known_again(strict and attack.strict)

    def _known_again(self, strict):
        """What the queue knows after `recover`, by an own look."""
        copy = self.workstation.sqlite(self.workstation.folder / "queue-copy")
        if copy is None:
            self.case.violation(f"no queue after recover: {self.what}")
            return
        connection = sqlite3.connect(copy)
        try:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(2)")]
            states = {}
            for path, state in connection.execute("SELECT run_path, state FROM job ORDER BY generation"):
                states.setdefault(path, []).append(state)
        except sqlite3.Error as problem:
            self.case.violation(f"still damaged after recover: {self.what}: {problem}")
            return
        finally:
            connection.close()
        if problems != ["ok"]:
            self.case.violation(f"still damaged after recover: {self.what}: {problems}")
        for state, run in self.population.runs.items():
            found = states.get(run.argument, [])
            expected = (*EXPECTED[state], "queued") if state == "verified" and self.anew else EXPECTED[state]
            if len(found) != 1 or (strict and found[0] not in expected):
                self.case.violation(f"FORGOTTEN: {run.relative} was {state} and is {found or 'unknown'} after recover: {self.what}")
            if found and found[-1] in ("verified", "cleanup_eligible", "cleaned") and self.checker.published(run)[0] is None:
                self.case.violation(f"a wrong {found[-1]}: the NAS has no {run.relative}: {self.what}")

    def _to_the_end(self):
        """Undisturbed: whatever was not sent is sent, and nothing is lost."""
        self.workstation.configure(Settings(cleanup=EARLY))
        self.workstation.run("retry", "--all-failed")
        for _ in range(4):
            result = self.workstation.run("drain")
            if result.code != 75:
                break
        self._tell(self._promise(), "at the end")
        copy = self.workstation.sqlite(self.workstation.folder / "queue-copy")
        connection = sqlite3.connect(copy)
        states = dict(connection.execute("SELECT run_path, state FROM job ORDER BY generation"))
        connection.close()
        for run in self.population.runs.values():
            if states.get(run.argument) not in ("verified", "cleanup_eligible", "cleaned"):
                self.case.violation(f"STRANDED: {run.relative} is {states.get(run.argument)} at the end: {self.what}; {result}")
            listed = self.checker.published(run)[0]
            if listed is None or set(listed) != set(run.files):
                self.case.violation(f"not sent at the end: {run.relative}: {self.what}; {result}")

    # The looks

    def _promise(self):
        """Each file is here or, listed, on the NAS; the queue's word is not asked."""
        found = []
        for run in self.workstation.runs:
            found += [f"{run.relative}: {text}" for text in self.checker._run_at_any_time(run, None)]
        return found

    def _nothing_deleted(self, when):
        """Not one local file may be gone, whatever the file says: it is too early for all, or no copy is proven."""
        for run in self.workstation.runs:
            if self.population.data(run) != self.population.before[run.relative]:
                gone = sorted(set(self.population.before[run.relative]) - set(self.population.data(run)))
                self.case.violation(f"DELETED without proof {when}: {self.what}: {run.relative}: {gone[:3]}")
        if not self.bad:
            self._tell(self._promise(), when)

    def _tell(self, texts, when):
        self.case.violation(*[f"{when}: {self.what}: {text}" for text in texts])

    # Locked by somebody

    def locked(self):
        """Another process has the file, for a moment or for a minute; a service and a command go on afterwards as if nothing had been."""
        seconds = 60 if self.random.random() < 0.3 else self.random.uniform(0.3, 6)
        way = self.random.choice(("sqlite", "flock"))
        self.what = f"locked by {way} for {seconds:.0f} s"
        self.case.trial("locked-60s" if seconds == 60 else "locked")
        early = self.random.random() < 0.5
        process = self.workstation.start("serve") if early else None
        holder = queue_damage.Holder(self.workstation.state, way, seconds, alone=not early)
        process = process or self.workstation.start("serve")
        if not holder.held:
            self.case.violation(f"{self.what}: the lock could not be had")
        try:
            status = self.workstation.run("status", timeout=seconds + 60)
            enqueue = self.workstation.run("enqueue", self.population.runs["queued"].argument, timeout=seconds + 120)
            for result in (status, enqueue):
                if result.hung or result.code not in (0, 1, 75) or (result.code and "held" not in result.text):
                    self.case.violation(f"{'HUNG' if result.hung else 'wrong'}: {self.what}: {result}")
            holder.join()
            if not self.population.until(lambda states: all(
                states.get(self.population.runs[name].argument) == "verified" for name in ("queued", "running", "awaiting_verify")
            ), 60) or process.poll() is not None:
                self.case.violation(f"STRANDED: {self.what}: {self.population.states()}")
        finally:
            holder.join()
            result = self.workstation.ended(process, ("serve",), after=0)
        if result.code != 0:
            self.case.violation(f"{self.what}: {result}")
        self._tell(self._promise(), "after the lock")
        self.population.renew()
