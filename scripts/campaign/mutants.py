#!/usr/bin/env python3
"""Shows that the campaign bites: takes one safeguard out of a copy of the program, builds that, and runs the part that has to notice.

    mutants.py [NAME…] [--seed N]
    mutants.py --applicable            only whether each still finds its place in the sources

Exits 1 where the campaign finds nothing wrong with a mutant, or anything with the program as it is. The copies are built in .build/mutants, one after the other.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SCRATCH = REPOSITORY / ".build" / "mutants"

# name: (what is taken out, [(file, text, its replacement)], words for campaign.py)
MUTANTS = {
    "digest-comparison": (
        "every digest of the NAS is taken for the right one",
        [
            (
                "Sources/Verification/RemoteVerifier.swift",
                "        if digest == file.digest {",
                "        if digest.hex.count == file.digest.hex.count {",
            ),
        ],
        ["corruption", "--driver", "sftp-only", "--trials", "20"],
    ),
    "compare-and-set": (
        "a job moves on from whatever state it is in",
        [
            (
                "Sources/JobQueue/SyncQueue+Work.swift",
                "WHERE number = ?1 AND state = ?4 AND claimed_by IS ?5",
                "WHERE number = ?1 AND (?4 IS ?4 OR ?5 IS ?5)",
            ),
        ],
        ["crowd", "--driver", "sftp-only", "--trials", "60"],
    ),
    "fsync-before-settle": (
        "small files are not flushed to the NAS's disk where nothing else does it",
        [
            (
                "Sources/NASSync/ComponentSender+Small.swift",
                "      let durable = flushesSmallFiles()\n      if !durable { flushed.leaveOut() }\n",
                "      let durable = false\n",
            ),
        ],
        ["durability", "--driver", "sftp-only", "--trials", "10"],
    ),
    "inode-check": (
        "what is about to be removed is not compared with what was verified",
        [
            (
                "Sources/Cleanup/RunCleaner.swift",
                "    return found.contentDifference(\n",
                "    return found.size < .max ? nil : found.contentDifference(\n",
            ),
        ],
        ["moves", "--driver", "sftp-only", "--trials", "120"],
    ),
    "exclusive-rename": (
        "what is published replaces what has its name",
        [
            (
                "Sources/TransportSFTP/SFTPFolders.swift",
                "    if try await attributes(at: final) != nil { throw .alreadyExists(final) }\n    let renamed = try await status(of: .rename(",
                "    let renamed = try await status(of: .posixRename(",
            ),
        ],
        ["neighbours", "--driver", "sftp-only", "--trials", "40"],
    ),
    "pause": (
        "a destination that does not answer is asked again at once",
        [
            (
                "Sources/NASSync/JobRunner+Settle.swift",
                "next = seconds > 0 ? now + seconds : nil",
                "next = seconds > 0 ? now : nil",
            ),
        ],
        ["network", "--driver", "sftp-only", "--trials", "28"],
    ),
    "attempts": (
        "a destination that does not answer uses up attempts",
        [
            (
                "Sources/NASSync/JobRunner+Settle.swift",
                "next = seconds > 0 ? now + seconds : nil",
                "next = seconds > 0 ? now + seconds : nil\n      attempts += 1",
            ),
        ],
        ["network", "--driver", "sftp-only", "--trials", "28"],
    ),
    "outage-record": (
        "an outage is not put on record",
        [
            (
                "Sources/NASSync/JobRunner+Settle.swift",
                "    if ended.unreachable, let next {",
                "    if ended.unreachable, attempts < 0, let next {",
            ),
        ],
        ["network", "--driver", "sftp-only", "--trials", "28"],
    ),
    "host-key": (
        "another host key is taken for the right one",
        [
            (
                "Sources/TransportSFTP/HostKeyPolicy.swift",
                "    case .changed(let line):\n",
                "    case .changed(let line):\n      if line >= 0 { return }\n",
            ),
        ],
        ["network", "--driver", "sftp-only", "--trials", "28"],
    ),
    "stop": (
        "what was left out when the program is told to stop passes for done",
        [
            (
                "Sources/NASSync/Turn.swift",
                "if Task.isCancelled { throw TransportError.failure(ComponentSender.stopped, sessionLost: false) }",
                "if Task.isCancelled { break }",
            ),
            (
                "Sources/NASSync/JobRunner+Prove.swift",
                "if environment.stop.isSet || Task.isCancelled { throw .failure(ComponentSender.stopped, sessionLost: false) }",
                "",
            ),
        ],
        ["stops", "--driver", "sftp-only", "--trials", "80"],
    ),
}  # fmt: skip


def copy_tree():
    """The tree as it is, without what was built; what has not changed keeps its time, so that it is not built again."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, check=True
    ).stdout.split(b"\0")
    for name in filter(None, names):
        source, target = REPOSITORY / name.decode(), SCRATCH / name.decode()
        if not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copyfile(source, target)


def applies(path, text):
    """Whether a mutation's text stands once in a file; says so where it does not."""
    count = path.read_text().count(text)
    if count != 1:
        print(f"  {path} has changed: a mutation's text is there {count} times: {text!r}", flush=True)
    return count == 1


def build(name, edits):
    """The program with some edits made; None where it cannot be made."""
    if not all([applies(SCRATCH / file, text) for file, text, _ in edits]):
        return None
    originals = {SCRATCH / file: (SCRATCH / file).read_text() for file, _, _ in edits}
    for file, text, replacement in edits:
        path = SCRATCH / file
        path.write_text(path.read_text().replace(text, replacement))
    try:
        # Unoptimised: what is taken out is the same, and it is built in a fraction of the time.
        command = ["swift", "build", "--product", "nassync"]
        result = subprocess.run(command, cwd=SCRATCH, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if result.returncode != 0:
            print((result.stdout + result.stderr)[-2000:], flush=True)
            return None
        program = SCRATCH / ".build" / f"mutant-{name}"
        shutil.copy(SCRATCH / ".build" / "debug" / "nassync", program)
        return program
    finally:
        for path, original in originals.items():
            path.write_text(original)


def tried(program, words, seed):
    """(violations, trials, the first of them, the last that was printed). A case that breaks off has found nothing."""
    command = [str(REPOSITORY / "scripts/campaign/campaign.py"), *words, "--seed", str(seed), "--program", str(program)]
    result = subprocess.run([*command, "--keep", str(SCRATCH / ".build" / "kept")], capture_output=True, text=True)
    found = [line for line in result.stdout.splitlines() if line.split()[:2] == [words[0], "all"]]
    blocks = [block.splitlines()[1:2] for block in result.stdout.split("VIOLATION")[1:]]
    said = [line.strip() for block in blocks for line in block if "broke off" not in line]
    violations = int(found[0].split()[-1]) if found and said else 0
    return violations, int(found[0].split()[-2]) if found else 0, (said or [""])[0][:150], result.stdout[-1500:] + result.stderr[-1500:]


def main():
    parser = argparse.ArgumentParser(usage=__doc__.strip("\n"))
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--applicable", action="store_true")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in MUTANTS]:
        parser.exit(2, f"mutants: there is no {unknown[0]}; there are {', '.join(MUTANTS)}\n")
    if options.applicable:
        return 0 if all([applies(REPOSITORY / file, text) for _, edits, _ in MUTANTS.values() for file, text, _ in edits]) else 1
    copy_tree()
    failed, table, controls = [], [], {}
    names = options.names or list(MUTANTS)
    # The same trials with nothing taken out: what finds fault with everything shows nothing.
    control = build("none", [])
    for name in names:
        what, edits, words = MUTANTS[name]
        print(f"\n== {name}: {what}", flush=True)
        if tuple(words) not in controls:
            violations, trials, first, output = tried(control, words, options.seed) if control else (1, 0, "not built", "")
            controls[tuple(words)] = violations
            table.append((" ".join(words[:3:2]), f"{violations} violations in {trials} trials, nothing taken out", first))
            if violations:
                failed.append(f"{' '.join(words)} with nothing taken out")
                print(output, flush=True)
        started = time.monotonic()
        program = build(name, edits)
        if program is None:
            failed.append(name)
            table.append((name, "not built", ""))
            continue
        print(f"  built in {time.monotonic() - started:.0f} s", flush=True)
        violations, trials, first, output = tried(program, words, options.seed)
        table.append((name, f"{violations} violations in {trials} trials", first))
        if not violations:
            failed.append(name)
            print(output, flush=True)
    print(f"\n{'mutant':<22}what the campaign says")
    for name, said, first in table:
        print(f"{name:<22}{said}\n{'':<22}{first}")
    if failed:
        print(f"not shown: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
