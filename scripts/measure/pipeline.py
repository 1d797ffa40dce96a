#!/usr/bin/env python3
"""Measures the whole pipeline: the release program against a private sshd on loopback.

    pipeline.py PROGRAM [small] [large]     PROGRAM is the nassync executable

small: a run of 20,000 files of 4 KiB.  large: a run of one 3 GiB file.
Prints wall seconds, CPU seconds, peak memory of the process and the rate, from the enqueued run to VERIFIED (sent, hashed on the NAS, published),
and fails where a run does not end verified, `sha256sum -c` disagrees, or memory exceeds 150 MB.
Where rsync is installed, `rsync -a` followed by `rsync -ac` is measured in the same run for a ratio.
SCRATCH=/path chooses where the data and the NAS tree lie (default: the system's folder for temporary files).
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "demo"))
from nas import PrivateNAS  # noqa: E402

LIMIT_MB = 150


def small(folder):
    maker = random.Random(1)
    for number in range(20_000):
        place = os.path.join(folder, f"plate_{number // 200:03d}")
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, f"well_{number:05d}.fcs"), "wb") as file:
            file.write(maker.randbytes(4096))


def large(folder):
    maker = random.Random(2)
    block = maker.randbytes(16 << 20)
    with open(os.path.join(folder, "stack.bin"), "wb") as file:
        for number in range(192):
            file.write(number.to_bytes(8, "little") + block[8:])


def timed(arguments, **options):
    """Runs a command; returns (exit code, wall s, cpu s, peak MB)."""
    started = time.monotonic()
    process = subprocess.Popen(arguments, **options)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def configure(folder, nas):
    os.makedirs(os.path.join(folder, "equipment"))
    with open(os.path.join(folder, "nassync.yaml"), "w") as file:
        file.write("state_dir: ./state\nequipment_dir: ./equipment\n")
    transport = {key: value for key, value in nas.transport.items() if key != "connections"}
    with open(os.path.join(folder, "equipment", "SCOPE_01.yaml"), "w") as file:
        json.dump({"id": "SCOPE_01", "local_root": os.path.join(folder, "lab"), "transport": transport}, file)
    return os.path.join(folder, "nassync.yaml")


def measure(program, name, maker, base):
    with tempfile.TemporaryDirectory(prefix="nassync-bench-", dir=base) as folder:
        nas = PrivateNAS(os.path.join(folder, "nas"))
        nas.start()
        try:
            relative = f"SCOPE_01/Bench/Runs/Run_{name}"
            run = os.path.join(folder, "lab", relative)
            os.makedirs(run)
            maker(run)
            config = configure(folder, nas)
            size = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(run) for f in files)
            command = [program, "--config", config, "--quiet"]
            code, wall_q, _, peak_q = timed(command + ["enqueue", run], stdout=subprocess.DEVNULL)
            code_d, wall, cpu, peak = timed(command + ["drain"], stdout=subprocess.DEVNULL)
            status = json.loads(subprocess.run(command + ["--json", "status", run], capture_output=True, text=True).stdout)
            remote = os.path.join(str(nas.folder), relative)
            proof = subprocess.run(["sha256sum", "--quiet", "-c", ".exlab-wizard/checksums.sha256"], cwd=remote).returncode
            print(f"{name:6} nassync enqueue {wall_q:7.2f} s                        peak {peak_q:6.1f} MB")
            print(f"{name:6} nassync drain   {wall:7.2f} s  {size / wall / 1e6:7.1f} MB/s  cpu {cpu:6.2f} s  peak {peak:6.1f} MB"
                  f"  evidence {status['evidence']}")
            good = code == code_d == proof == 0 and status["state"] == "verified" and max(peak, peak_q) <= LIMIT_MB
            if not good:
                print(f"{name:6} FAILED: exit {code}/{code_d}, state {status['state']}, sha256sum -c {proof}, limit {LIMIT_MB} MB,"
                      f" error {status['last_error']}")
            if shutil.which("rsync"):
                ssh = f"ssh -p {nas.port} -i {nas.user_key} -o UserKnownHostsFile={nas.known_hosts} -o BatchMode=yes"
                target = f"{nas.user}@{nas.host}:{nas.folder}/peer/"
                os.makedirs(os.path.join(str(nas.folder), "peer"))
                first = timed(["rsync", "-a", "-e", ssh, run + "/", target])
                check = timed(["rsync", "-ac", "-e", ssh, run + "/", target])
                if first[0] or check[0]:
                    print(f"{name:6} rsync failed: {first[0]}/{check[0]}")
                else:
                    peer = first[1] + check[1]
                    print(f"{name:6} rsync -a, -ac   {peer:7.2f} s  ratio nassync / rsync {(wall + wall_q) / peer:.2f}")
            return good
        finally:
            nas.stop()


def main():
    program = os.path.abspath(sys.argv[1])
    names = sys.argv[2:] or ["small", "large"]
    base = os.environ.get("SCRATCH") or None
    results = [measure(program, name, {"small": small, "large": large}[name], base) for name in names]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
