#!/usr/bin/env python3
"""Measures the WebDAV driver: the release program against a private web server on loopback, beside rclone and curl on the same server.

    webdav.py PROGRAM [small] [short] [large] [--server nginx|apache]

small: a run of 10,000 files of 4 KiB in 100 folders, enqueued and drained to VERIFIED (every file read back and hashed), against
       `rclone copy --transfers 16`, which proves nothing. Aim: at least 20 times as fast.
short: the same with 2,000 files.
large: a run of one 2 GiB file, against `curl -T` and a download by curl that OpenSSL hashes. Three rounds, one after the other in turns.
       Aim: a median ratio of at most 1.3.
Nothing named: small and large. Exit 1 where a run does not end verified, where what the server holds is not what was sent, or an aim is missed.
SCRATCH=/path chooses where the data and the server's tree lie (default: memory, /dev/shm, where 8 GB are free there).
"""

import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "demo"))
from common import configure, one_file, small_files, timed  # noqa: E402
from webdav_nas import PrivateNginx, PrivateWebDAV  # noqa: E402

FACTOR, RATIO, ROUNDS = 20, 1.3, 3
RUN = "SCOPE_01/Bench/Runs/Run_1"


class Bench:
    """A server, a run, and the two ways to bring it there."""

    def __init__(self, program, folder, server, maker):
        self.program, self.folder = program, folder
        self.nas = server(os.path.join(folder, "nas"))
        self._lab = os.path.join(folder, "lab")
        os.makedirs(self.run)
        maker(self.run)
        self.failed = False
        self._rounds = 0

    @property
    def run(self):
        return os.path.join(self._lab, RUN)

    @property
    def _transport(self):
        return {key: value for key, value in self.nas.transport.items() if key != "connections"}

    def ours(self):
        """Enqueues and drains; seconds. Each time a workstation of its own, and nothing on the server."""
        self._rounds += 1
        home = os.path.join(self.folder, f"round{self._rounds}")
        os.makedirs(home)
        # What the program writes into the run's metadata folder is not there the first time either.
        shutil.rmtree(os.path.join(self.run, ".exlab-wizard"), ignore_errors=True)
        os.rename(self._lab, os.path.join(home, "lab"))
        self._lab = os.path.join(home, "lab")
        command = [self.program, "--config", configure(home, self._transport), "--quiet"]
        codes, seconds, peaks, cpu = [], 0, [], 0
        for words in (["enqueue", self.run], ["drain"]):
            code, wall, used, peak = timed(command + words, stdout=subprocess.DEVNULL)
            codes, seconds, cpu, peaks = codes + [code], seconds + wall, cpu + used, peaks + [peak]
        status = json.loads(subprocess.run(command + ["--json", "status", self.run], capture_output=True, text=True, check=False).stdout)
        remote = self.nas.folder / RUN
        proof = subprocess.run(["sha256sum", "--quiet", "-c", ".exlab-wizard/checksums.sha256"], cwd=remote, check=False).returncode
        if any(codes) or status["state"] != "verified" or proof or max(peaks) > 150:
            print(f"  FAILED: exit {codes}, state {status['state']}, sha256sum -c {proof}, peak {max(peaks):.0f} MB, error {status['last_error']}")
            self.failed = True
        print(f"  nassync  {seconds:8.2f} s  cpu {cpu:6.2f} s  peak {max(peaks):6.1f} MB  evidence {status['evidence']}")
        shutil.rmtree(self.nas.folder / "SCOPE_01")
        return seconds

    def rclone(self):
        """`rclone copy`; seconds."""
        password = self.nas.password_file.read_text().strip()
        obscured = subprocess.run(["rclone", "obscure", "-"], input=password, capture_output=True, text=True, check=True).stdout.strip()
        environment = {
            **os.environ, "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_NAS_TYPE": "webdav", "RCLONE_CONFIG_NAS_VENDOR": "other",
            "RCLONE_CONFIG_NAS_URL": self.nas.address, "RCLONE_CONFIG_NAS_USER": self.nas.user, "RCLONE_CONFIG_NAS_PASS": obscured,
        }  # fmt: skip
        command = ["rclone", "copy", "--transfers", "16", "--exclude", "/.exlab-wizard/**", self.run, "NAS:peer"]
        code, wall, cpu, peak = timed(command, env=environment, stdin=subprocess.DEVNULL)
        wanted = subprocess.run(["diff", "-rq", "--exclude=.exlab-wizard", self.run, str(self.nas.folder / "peer")], check=False).returncode
        if code or wanted:
            print(f"  FAILED: rclone exit {code}, diff {wanted}")
            self.failed = True
        print(f"  rclone   {wall:8.2f} s  cpu {cpu:6.2f} s  peak {peak:6.1f} MB  nothing proven")
        shutil.rmtree(self.nas.folder / "peer", ignore_errors=True)
        return wall

    def curl(self):
        """`curl -T`, then a download that is hashed; seconds."""
        file = os.path.join(self.run, "stack.bin")
        settings = os.path.join(self.folder, "curl.conf")
        with open(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
            handle.write(f'user = "{self.nas.user}:{self.nas.password_file.read_text().strip()}"\nsilent\nfail\nnoproxy = "*"\n')
        address = f"{self.nas.address}/peer.bin"
        started = time.monotonic()
        sent = subprocess.run(["curl", "-q", "-K", settings, "-T", file, address], stdout=subprocess.DEVNULL, check=False).returncode
        between = time.monotonic()
        with subprocess.Popen(["curl", "-q", "-K", settings, address], stdout=subprocess.PIPE) as download:
            digest = subprocess.run(["openssl", "dgst", "-sha256", "-r"], stdin=download.stdout, capture_output=True, text=True, check=False)
        wall = time.monotonic() - started
        if sent or download.returncode or digest.stdout.split()[:1] != [self.digest]:
            print(f"  FAILED: curl exit {sent}/{download.returncode}, digest {digest.stdout.strip()}")
            self.failed = True
        print(f"  curl     {wall:8.2f} s  (up {between - started:.2f} s, down and hashed {wall - (between - started):.2f} s)")
        os.unlink(self.nas.folder / "peer.bin")
        return wall

    @property
    def digest(self):
        if not hasattr(self, "_digest"):
            with open(os.path.join(self.run, "stack.bin"), "rb") as file:
                self._digest = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digest


def measure(name, bench):
    if name == "large":
        # Before the clock runs.
        _ = bench.digest
        ratios = []
        for _ in range(ROUNDS):
            ours = bench.ours()
            ratios.append(ours / bench.curl())
        middle = statistics.median(ratios)
        met = middle <= RATIO
        print(f"  nassync / curl: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {middle:.2f}; aim at most {RATIO}: {'met' if met else 'MISSED'}")
    else:
        # Once for rclone, which takes minutes.
        ours = statistics.median(bench.ours() for _ in range(ROUNDS))
        factor = bench.rclone() / ours
        met = factor >= FACTOR
        print(f"  rclone / nassync: {factor:.1f}; aim at least {FACTOR}: {'met' if met else 'MISSED'}")
    return met and not bench.failed


def main(arguments):
    servers = {"nginx": PrivateNginx, "apache": lambda base: PrivateWebDAV(base, tls=False)}
    makers = {"small": small_files(10_000), "short": small_files(2_000), "large": one_file(2 << 30)}
    server = "nginx"
    if "--server" in arguments:
        place = arguments.index("--server")
        server = arguments[place + 1] if place + 1 < len(arguments) else ""
        del arguments[place : place + 2]
    names = arguments[1:] or ["small", "large"]
    if not arguments or server not in servers or any(name not in makers for name in names):
        print(__doc__, file=sys.stderr)
        return 2
    base = os.environ.get("SCRATCH")
    if not base and os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 8 << 30:
        base = "/dev/shm"
    good = True
    for name in names:
        with tempfile.TemporaryDirectory(prefix="nassync-bench-", dir=base or None) as folder:
            bench = Bench(os.path.abspath(arguments[0]), os.path.realpath(folder), servers[server], makers[name])
            bench.nas.start()
            print(f"{name} over WebDAV of {server}", flush=True)
            try:
                good = measure(name, bench) and good
            finally:
                bench.nas.stop()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
