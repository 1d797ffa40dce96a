"""Somebody else writes into the run's place on the NAS while it is published there: nothing of theirs is overwritten."""

import os
import threading
import time

from checker import Checker
from faults import tracing
from lab import METADATA, Workstation


class NeighboursPart:
    """A case is a run of which a second generation is added to the published one, file by file, with somebody else beside it."""

    drivers = ("sftp-shell", "sftp-only", "webdav")
    unavailable = ""

    def __init__(self, campaign, side):
        self.side = side

    def prepare(self, folder):
        """Nothing to learn beforehand."""

    def case(self, case):
        workstation = Workstation(case.folder / "workstation", case.program, case.side.place(f"neighbours-{case.number}"))
        case.workstations.append(workstation)
        checker = Checker(workstation, case.side.in_place)
        run = workstation.make_run(case.random, "P", files=4, large=False)
        for command in (("enqueue", run.argument), ("drain",)):
            if (result := workstation.run(*command)).code != 0:
                case.violation(f"could not be prepared: {result}")
                return
        before = set(run.files)
        run.add_files(case.random, 16)
        workstation.run("enqueue", run.argument)
        new = sorted(set(run.files) - before)
        theirs, stop = {}, threading.Event()
        neighbour = threading.Thread(target=self._write, args=(case, run, new, theirs, stop), daemon=True)
        neighbour.start()
        slowed = tracing(["sendto"], "-o", os.devnull, "-e", f"inject=sendto:delay_enter={case.random.randrange(500, 6000)}")
        result = workstation.run("drain", before=slowed)
        stop.set()
        neighbour.join(timeout=10)
        if result.hung or result.code not in (0, 1, 75):
            case.violation(f"HUNG or crashed: {result}")
        for name, content in theirs.items():
            if workstation.place.get(run.remote + b"/" + name) != content:
                case.violation(f"OVERWRITTEN: {name!r}, which somebody else had put on the NAS")
        text = workstation.place.get(run.remote + f"/{METADATA}/checksums.sha256".encode()) or b""
        case.violation(*[text for text in checker.queue_violations(checker.queue())])
        if theirs and any(name in text for name in theirs):
            case.violation("the manifest lists a file of somebody else's")
        if theirs:
            case.trial("in time")
        else:
            case.labels["(too late)"] += 1

    @staticmethod
    def _write(case, run, new, theirs, stop):
        """As soon as the first of the new files is there, names that are not yet: each made only where there is nothing."""
        root = os.path.join(case.workstations[0].place.root, run.remote)
        while not stop.is_set() and not any(os.path.lexists(os.path.join(root, name)) for name in new):
            time.sleep(0.0005)
        for name in reversed(new):
            content = b"somebody else's " + case.random.randbytes(20)
            path = os.path.join(root, name)
            try:
                # Whole at once, as a rename of theirs would be.
                temporary = root + b"/../theirs"
                with open(temporary, "wb") as file:
                    file.write(content)
                os.link(temporary, path)
                theirs[name] = content
            except (FileExistsError, FileNotFoundError):
                pass
            finally:
                os.unlink(temporary)
            if len(theirs) >= 3:
                return
