"""Many commands at one queue: what several people and a service do in the same moment happens once, in one order, and is noted as it happened."""

import os

from checker import Checker
from faults import tracing
from lab import Settings, Workstation
from nas_side import PROTOCOLS

# Between reading a job and moving it on, each waits for a moment.
_SLOWED = ("pread64", "flock", "fcntl")


class CrowdPart:
    """A case is a failed job, which a crowd wants to have tried again, enqueued and sent."""

    drivers = PROTOCOLS
    unavailable = ""

    def __init__(self, campaign, side):
        self.side = side

    def prepare(self, folder):
        """Nothing to learn beforehand."""

    def case(self, case):
        workstation = Workstation(case.folder / "workstation", case.program, case.side.place(f"crowd-{case.number}"))
        case.workstations.append(workstation)
        checker = Checker(workstation, case.side.in_place)
        for number in range(4):
            run = workstation.make_run(case.random, f"P{number}", files=5, large=False)
            # Nobody lets anybody in there: a failure that is not tried again by itself.
            workstation.configure(Settings(gate={"validators": [{"command": ["false"]}]}))
            workstation.run("enqueue", run.argument)
            workstation.configure(Settings())
            workstation.run("enqueue", run.argument)
            workstation.configure(Settings(gate={"validators": [{"command": ["false"]}]}))
            workstation.run("drain")
            workstation.configure(Settings())
            jobs = (checker.queue() or {}).get(os.fsencode(run.path), [])
            if not jobs or jobs[-1]["state"] != "failed":
                case.violation(f"could not be prepared: {workstation.log[-1]}")
                return
            self._crowd(case, workstation, run)
            case.violation(*checker.at_any_time())
            result = workstation.run("drain")
            if result.code != 0:
                case.violation(f"not recovered: {result}")
            case.violation(*checker.after_recovery(run, "verified"))
            case.trial("retry")
            if case.violations:
                return

    @staticmethod
    def _crowd(case, workstation, run):
        slowed = tracing(_SLOWED, "-o", os.devnull, "-e", f"inject={','.join(_SLOWED)}:delay_enter={case.random.randrange(200, 1500)}")
        commands = [("retry", run.argument)] * 4 + [("enqueue", run.argument), ("status", run.argument)]
        case.random.shuffle(commands)
        processes = [workstation.start(*command, before=slowed) for command in commands]
        codes = []
        for process, command in zip(processes, commands):
            out, err = process.communicate(timeout=120)
            codes.append((command[0], process.returncode))
            workstation.log.append(f"crowd: {command[0]} {process.returncode}\n{(out + err).decode(errors='replace')}")
            if process.returncode not in (0, 1, 2, 3, 75):
                case.violation(f"{command}: ended with {process.returncode}")
        # One of them brought it back; the others were told that it was not failed any more.
        if (won := sum(1 for command, code in codes if command == "retry" and code == 0)) > 1:
            case.violation(f"DOUBLED: {won} of 4 retries say that they put the job back")
