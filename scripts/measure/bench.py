#!/usr/bin/env python3
"""Measures whole runs over SFTP beside the programs that a lab would use instead, on one private sshd, in turns.

    bench.py PROGRAM [WORKLOAD…] [--rounds N] [--short] [--peer NAME]… [--ssh builtin|openssh] [--relay FILE] [--out FOLDER]

PROGRAM is the nassync executable, FILE the nassync-bench executable, which the workloads with a delay need.

A       one file of 2 GiB                               A10, A50   256 MiB over a link of 1 Gbit/s with 10 and 50 ms round trip
B       10,000 files of 4 KiB in 100 folders            B10, B50   1,000 files of 4 KiB over such links
C       400 x 2 MiB, 2,000 x 20 KiB, 1 x 512 MiB        E          C, of which 99 % are on the NAS already
D       100,000 files of 1 KiB in 1,000 folders

Ours is `nassync enqueue` and `nassync drain`: queue, gate, staging, remote hashing, manifest, receipt and publication, up to VERIFIED; after each, `sha256sum -c`
on the NAS has to agree. A peer is its push, followed by its own check where it has one (rsync -ac, rclone check).
Printed are medians (least to most) of N rounds, and the ratios that are aimed at; --out writes all of it as JSON and the ratios as a plot.
Exit 1 where something failed; a missed aim is said, and is no failure. SCRATCH=/path chooses where data and NAS lie (default: memory, /dev/shm).
"""

import argparse
import collections
import json
import os
import pathlib
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "demo"))
import machine  # noqa: E402
import report  # noqa: E402
from common import configure, loopback_bytes, mixed, one_file, server_seconds, small_files, timed  # noqa: E402
from nas import PrivateNAS  # noqa: E402
from peers import PEERS, Place  # noqa: E402

MEGABITS = 1000
RUN = "SCOPE_01/Bench/Runs/Run_1"
# What rclone needs minutes for is measured once.
Workload = collections.namedtuple("Workload", "make round_trip peers once prefilled short", defaults=(None, tuple(PEERS), (), False, None))
LATENT = ("rsync", "rclone", "sftp", "tar | ssh")
WORKLOADS = {
    "A": Workload(one_file(2 << 30), short=one_file(1 << 30)),
    "B": Workload(small_files(10_000), once=("rclone",), short=small_files(3_000)),
    "C": Workload(mixed, once=("rclone",)),
    "D": Workload(small_files(100_000, 1024), peers=("rsync", "rclone", "tar | ssh"), once=("rclone",)),
    "E": Workload(mixed, peers=("rsync", "rclone"), prefilled=True),
    "A10": Workload(one_file(256 << 20), 10, LATENT), "A50": Workload(one_file(256 << 20), 50, LATENT, once=("rclone",)),
    "B10": Workload(small_files(1_000), 10, LATENT, once=("rclone", "sftp")), "B50": Workload(small_files(1_000), 50, LATENT, once=("rclone", "sftp")),
}  # fmt: skip
SHORT = {"A": ("rsync", "sftp"), "B": ("rsync", "rclone"), "A10": ("rsync",), "B10": ("rsync",)}


class Broken(Exception):
    """A run that did not arrive; the message says how."""


class Ground:
    """A server, a run, the link between them, and the ways to bring the run there."""

    def __init__(self, folder, options, workload, maker):
        self.folder, self.options, self.workload = pathlib.Path(folder), options, workload
        self.nas = PrivateNAS(self.folder / "nas")
        self.run = self.folder / "lab" / RUN
        self.run.mkdir(parents=True)
        maker(self.run)
        self.rest = []
        if workload.prefilled:
            files = sorted(path.relative_to(self.run) for path in self.run.rglob("*") if path.is_file())
            # Of the bytes, too: neither begins with the first nor comes to the last, which is the one of 512 MiB.
            self.rest = files[50::100]
            yesterday = time.time() - 86_400
            for file in files:
                os.utime(self.run / file, (yesterday, yesterday))
        self.relay = None
        self._rounds = 0

    def __enter__(self):
        self.nas.start()
        self.port = self.nas.port
        if self.workload.round_trip:
            words = [self.options.relay, "relay", str(self.nas.port), str(self.workload.round_trip), str(MEGABITS)]
            self.relay = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            self.port = int(self.relay.stdout.readline())
        return self

    def __exit__(self, *_):
        self.nas.stop()
        if self.relay:
            self.relay.kill()
            self.relay.wait()

    def _fill(self, target):
        """What is there already, as a copy of an earlier day would be."""
        if not self.workload.prefilled:
            return
        shutil.copytree(self.run, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".exlab-wizard"))
        for path in self.rest:
            (target / path).unlink()

    def ours(self):
        self._rounds += 1
        home = self.folder / f"round{self._rounds}"
        home.mkdir()
        shutil.rmtree(self.run / ".exlab-wizard", ignore_errors=True)
        known = home / "known_hosts"
        known.write_text(f"[{self.nas.host}]:{self.port} {self.nas.known_hosts.read_text().split(' ', 1)[1]}")
        transport = {key: value for key, value in self.nas.transport.items() if key != "connections"}
        transport |= {"port": self.port, "known_hosts": str(known), "ssh": self.options.ssh}
        if self.options.ssh == "openssh":
            transport["ssh_config"] = "/dev/null"
        config = configure(str(home), transport, str(self.folder / "lab"))
        remote = self.nas.folder / RUN
        self._fill(remote)
        command = [self.options.program, "--config", config, "--quiet"]
        # What the NAS makes of names is asked once a day, not with each run.
        subprocess.run([*command, "check"], capture_output=True, check=False)
        measured = self._measured([(command + ["enqueue", str(self.run)], None), (command + ["drain"], None)])
        status = json.loads(subprocess.run(command + ["--json", "status", str(self.run)], capture_output=True, text=True, check=False).stdout)
        proof = subprocess.run(["sha256sum", "--quiet", "-c", ".exlab-wizard/checksums.sha256"], cwd=remote, check=False).returncode
        if any(measured["codes"]) or proof or status["state"] != "verified" or status["evidence"] != "server":
            raise Broken(f"nassync: exit {measured['codes']}, {status['state']}, {status['evidence']}, sha256sum -c {proof}, {status['last_error']}")
        measured["push"] = measured["parts"][0] + self._pushed(home)
        measured["sent"] = status["bytes_sent"]
        shutil.rmtree(home)
        return measured

    @staticmethod
    def _pushed(home):
        """Seconds from the claim of the job to the moment in which everything had been sent."""
        (queue,) = (home / "state").glob("*.db")
        with sqlite3.connect(f"file:{queue}?mode=ro", uri=True) as connection:
            moments = dict(connection.execute("SELECT to_state, max(at) FROM history WHERE to_state IS NOT NULL GROUP BY to_state"))
        return moments["awaiting_verify"] - moments["running"]

    def peer(self, peer):
        target = self.nas.folder / "peer"
        target.mkdir()
        self._fill(target)
        # Nothing of ours is in the run that a peer sends.
        shutil.rmtree(self.run / ".exlab-wizard", ignore_errors=True)
        place = Place(self.nas, self.port, target)
        commands = [(peer.push(place, str(self.run)), peer.environment(place))]
        if check := peer.check(place, str(self.run)):
            commands.append((check, peer.environment(place)))
        measured = self._measured(commands)
        same = subprocess.run(["diff", "-rq", str(self.run), str(target)], stdout=subprocess.DEVNULL, check=False).returncode
        if any(measured["codes"]) or same:
            raise Broken(f"{peer.name}: exit {measured['codes']}, diff {same}")
        measured["push"] = measured["parts"][0]
        return measured

    def _measured(self, commands):
        served, carried = server_seconds(self.nas.process_id), loopback_bytes()
        rows = []
        for arguments, environment in commands:
            rows.append(timed(arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        # A session's seconds are the server's once it has seen its end.
        time.sleep(0.3)
        return {
            "codes": [row[0] for row in rows], "parts": [row[1] for row in rows], "wall": sum(row[1] for row in rows),
            "cpu": sum(row[2] for row in rows), "peak": max(row[3] for row in rows),
            "server": server_seconds(self.nas.process_id) - served, "bytes": loopback_bytes() - carried,
        }  # fmt: skip

    def clear(self):
        for path in self.nas.folder.iterdir():
            shutil.rmtree(path)


def measure(name, options, base):
    """{program: rows} of one workload."""
    workload = WORKLOADS[name]
    maker = workload.short if options.short and workload.short else workload.make
    wanted = options.peer or (SHORT[name] if options.short else workload.peers)
    peers = [PEERS[peer] for peer in workload.peers if peer in wanted]
    for peer in [peer for peer in peers if not peer.is_there]:
        print(f"{name}: {peer.program} is not installed, so it is not measured", file=sys.stderr)
        peers.remove(peer)
    rows = {"nassync": [], **{peer.name: [] for peer in peers}}
    with tempfile.TemporaryDirectory(prefix="nassync-bench-", dir=base) as folder, Ground(os.path.realpath(folder), options, workload, maker) as ground:
        for number in range(options.rounds):
            rows["nassync"].append(ground.ours())
            ground.clear()
            for peer in peers:
                if number > 0 and peer.name in workload.once:
                    continue
                rows[peer.name].append(ground.peer(peer))
                ground.clear()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--ssh", choices=("builtin", "openssh"), default="builtin")
    parser.add_argument("--relay")
    parser.add_argument("--out")
    options = parser.parse_intermixed_args()
    options.program = os.path.abspath(options.program)
    options.rounds = options.rounds or (3 if options.short else 5)
    names = options.workloads or list(SHORT if options.short else WORKLOADS)
    for name in names:
        if name not in WORKLOADS or (WORKLOADS[name].round_trip and not options.relay):
            parser.error(f"{name} is no workload, or needs --relay")
    base = os.environ.get("SCRATCH") or ("/dev/shm" if os.path.isdir("/dev/shm") else None)
    print(f"seed fixed, {options.rounds} rounds in turns, ssh: {options.ssh}, data in {base or 'the temporary folder'}", flush=True)
    limits = machine.limits(base)
    report.print_limits(limits)
    results, good = {}, True
    for name in names:
        try:
            results[name] = measure(name, options, base)
        except Broken as problem:
            print(f"{name}: FAILED: {problem}", flush=True)
            good = False
            continue
        report.print_workload(name, results[name])
    report.print_aims(results)
    if options.out:
        report.write(pathlib.Path(options.out), limits, results, options)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
