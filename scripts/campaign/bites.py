#!/usr/bin/env python3
"""Shows that the checks of `queuefile`, `names` and the soak bite: does by hand what they are there to find, and looks whether they do. Builds nothing.

    bites.py [--program FILE]

Exits 1 where something goes unnoticed.
"""

import argparse
import os
import pathlib
import shutil
import sqlite3
import sys
import tempfile
import types

import names_corpus
import part_names
import part_queuefile
import queue_damage
import seals
import soak
from campaign import REPOSITORY, Campaign, Case, roomy_folder
from nas_side import Side


def _forged(random_, workstation, population, foreign):
    """What a bit flip must never come to: older verifications, sealed as if the program had written them."""
    queue_damage._lay(workstation, population.settled)
    connection = sqlite3.connect(workstation.state / "queue.db", isolation_level=None)
    connection.create_function("nassync_seal", -1, seals.seal, deterministic=True)
    connection.execute("UPDATE job SET verified_at = verified_at - 1e6, verify_passes = 5 WHERE state IN ('verified', 'cleanup_eligible')")
    sealed = "nassync_seal(job, wall, boot, uptime, source, evidence, files, ledger_length)"
    # Ten days in another start of the machine, twice looked at.
    connection.execute("UPDATE verification_pass SET boot = 'before', uptime = sequence, wall = wall - 1e6")
    connection.execute(
        "INSERT INTO verification_pass (job, wall, boot, uptime, source, evidence, files, ledger_length)"
        " SELECT job, wall + 90000, boot, uptime + 90000, 'audit', evidence, files, ledger_length FROM verification_pass"
    )
    connection.execute("INSERT INTO clock_sample (sequence, boot, uptime, wall) SELECT -1, 'before', 1e6, wall - 1 FROM clock_sample LIMIT 1")
    connection.execute(f"UPDATE verification_pass SET seal = {sealed}")
    connection.execute("UPDATE clock_sample SET seal = nassync_seal(boot, uptime, wall)")
    connection.close()
    return "forged", queue_damage.Attack()


def _forgotten(random_, workstation, population, foreign):
    """A queue that has lost its runs for good: they are hidden from `recover`, too."""
    queue_damage._clear(workstation)
    hidden = workstation.lab.with_name("hidden")
    return "forgotten", queue_damage.Attack(before=("env", f"NASSYNC_CONFIG={_elsewhere(workstation, hidden)}"))


def _elsewhere(workstation, hidden):
    """A configuration that knows no run of these, with the same state folder."""
    hidden.mkdir(exist_ok=True)
    folder = workstation.folder / "equipment-hidden"
    shutil.copytree(workstation.folder / "equipment", folder, dirs_exist_ok=True)
    for profile in folder.iterdir():
        text = profile.read_text().replace(str(workstation.lab), str(hidden))
        root = os.fsdecode(getattr(workstation.place, "root", b""))
        profile.write_text(text.replace(root, os.path.dirname(root) + "/empty"))
    os.makedirs(os.path.dirname(os.fsdecode(workstation.place.root)) + "/empty", exist_ok=True)
    text = (workstation.folder / "nassync.yaml").read_text().replace("./equipment", "./equipment-hidden")
    other = workstation.folder / "hidden.yaml"
    other.write_text(text)
    return other


def _quiet(random_, workstation, population, foreign):
    """An attack that is said to be noticed, and is none."""
    return "nothing", queue_damage.Attack(noticed=True)


def queue_bites(campaign, side):
    part = part_queuefile.QueueFilePart(campaign, side)
    part.prepare(campaign.base / "queuefile-prepare")
    for number, (attack, word) in enumerate(((_forged, "DELETED"), (_forgotten, "FORGOTTEN"), (_quiet, "nobody was told")), 1):
        drawn, queue_damage.draw = queue_damage.draw, attack
        try:
            for attempt in range(4):
                case = _case(campaign, "queuefile", side, number * 10 + attempt)
                population = part_queuefile.Population(case, part_queuefile.EARLY)
                if not population.make():
                    continue
                trial = part_queuefile._Trial(part, case, population, bad=False)
                for _ in range(1 if attack is not _forged else 3):
                    if not case.violations:
                        trial.go()
                yield f"queuefile: {attack.__name__[1:]}", word, case.violations
                break
        finally:
            queue_damage.draw = drawn


def names_bites(campaign, side):
    """The run is ordinary; what is done to it beside the program is not."""

    def flipped(case):
        run = case.runs[0]
        case.workstation.place.put(run.remote + b"/data.bin", b"DATA")

    def renamed(case):
        root, run = case.workstation.place.root, case.runs[0]
        os.rename(os.path.join(root, run.remote, b"data.bin"), os.path.join(root, run.remote, b"Data.bin"))

    def escaped(case):
        (pathlib.Path(case.case.side.server.base) / "nas" / "escaped").write_text("x")

    def interpreted(case):
        (case.workstation.folder / part_names._MARK).write_text("")

    def deleted(case):
        case.workstation.place.put(case.runs[0].remote + b"/other.bin", b"OTHER")
        os.unlink(case.runs[0].path + b"/other.bin")

    for number, (act, word) in enumerate(
        ((flipped, "not what it is here"), (renamed, "not what it is here"), (escaped, "ESCAPED"), (interpreted, "INTERPRETED"), (deleted, "DELETED")), 1
    ):
        case = _case(campaign, "names", side, number)
        hostile = part_names._Case(case, [names_corpus.Tree("plain", {b"data.bin": b"data", b"other.bin": b"other"})])
        must = hostile.must

        def after_drain(self, *command, must=must, act=act, **options):
            result = must(*command, **options)
            if command[0] == "drain":
                act(self)
            return result

        hostile.must = types.MethodType(after_drain, hostile)
        hostile.go()
        yield f"names: {act.__name__}", word, case.violations
    for raw in (b"\x1b[31m", "\u202e".encode(), b"\x7f", b"\xff", "\u200b".encode(), "\x9b".encode()):
        yield f"names: {raw!r} is shown", "U+" if raw != b"\xff" else "no text", part_names.unclean(b"nassync: " + raw)
    yield "names: ordinary text is shown", "", [] if part_names.unclean("nassync: Grün \\u{1b} 日本\n".encode()) else [""]


def soak_bites():
    flat, quiet = [(50 << 20, 40)] * 10, ({"anon_inode": 12}, {"nassync-queue": 1})
    yield "soak: memory grows", "memory grew", soak.grew(flat, [(64 << 20, 40)] * 10, quiet, quiet)[0]
    yield "soak: a descriptor is left open", "more is open at rest", soak.grew(flat, flat, quiet, ({"anon_inode": 13}, quiet[1]))[0]
    yield "soak: a thread is left", "more threads at rest", soak.grew(flat, flat, quiet, (quiet[0], {"sftp": 1}))[0]
    yield "soak: flat", "", [] if soak.grew(flat, flat, quiet, quiet)[0] else [""]


def _case(campaign, part, side, number):
    folder = campaign.base / f"{part}-{side.driver}-{number}"
    folder.mkdir()
    return Case(campaign, part, side, number, folder)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.strip("\n"))
    parser.add_argument("--program", type=pathlib.Path, default=REPOSITORY / ".build" / "release" / "nassync")
    options = parser.parse_args()
    base = pathlib.Path(tempfile.mkdtemp(prefix="nassync-bites-", dir=roomy_folder())).resolve()
    campaign = Campaign(types.SimpleNamespace(seed=1, jobs=1, program=options.program.resolve(), keep=base, short=False), base)
    side, missed = Side("sftp-only", base / "server"), []
    side.start()
    try:
        for bites in (soak_bites(), names_bites(campaign, side), queue_bites(campaign, side)):
            for what, word, violations in bites:
                found = [text for text in violations if word in text]
                print(f"{'noticed' if found else 'MISSED':<9}{what:<36}{found[0][:110] if found else violations[:1]}", flush=True)
                missed += [] if found else [what]
    finally:
        side.stop()
        shutil.rmtree(base, ignore_errors=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
