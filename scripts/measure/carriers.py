#!/usr/bin/env python3
"""Measures the two carriers of SFTP against each other: libssh2 in the process, and the system's ssh program.

    carriers.py PROGRAM [--rounds N] [--connections N] [--ssh-config FILE] [A] [B]     PROGRAM is the nassync executable

A: a run of one 2 GiB file.  B: a run of 10,000 files of 4 KiB in 100 folders.
Both carriers take turns against one private sshd on loopback. Printed are the medians (least to most) of the wall seconds from the run to
VERIFIED (queued, sent, hashed on the NAS, published), of the CPU seconds here with those of the ssh programs, and of the server's; and the
highest peak memory of a single process. It fails where a run does not end verified or `sha256sum -c` disagrees.
SCRATCH=/path chooses where the data and the NAS tree lie (default: /dev/shm).
"""
import argparse
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
from nas import PrivateNAS  # noqa: E402

CARRIERS = ("builtin", "openssh")


def workload_a(folder):
    block = random.Random(2).randbytes(16 << 20)
    with open(os.path.join(folder, "stack.bin"), "wb") as file:
        for number in range(128):
            file.write(number.to_bytes(8, "little") + block[8:])


def workload_b(folder):
    maker = random.Random(1)
    for number in range(10_000):
        place = os.path.join(folder, f"plate_{number // 100:03d}")
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, f"well_{number:05d}.fcs"), "wb") as file:
            file.write(maker.randbytes(4096))


def timed(arguments):
    """Runs a command; returns (exit code, wall s, CPU s of it and of all it waited for, peak MB of the largest of them)."""
    started = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def server_seconds(nas):
    """CPU seconds of the sessions that the server has seen the end of."""
    with open(f"/proc/{nas._process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def round_of(program, carrier, options, nas, folder, relative):
    run = os.path.join(folder, "lab", relative)
    shutil.rmtree(os.path.join(run, ".exlab-wizard"), ignore_errors=True)
    remote = os.path.join(str(nas.folder), relative)
    shutil.rmtree(remote, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        os.makedirs(os.path.join(place, "equipment"))
        config = os.path.join(place, "nassync.yaml")
        with open(config, "w") as file:
            file.write("state_dir: ./state\nequipment_dir: ./equipment\n")
        transport = {**nas.transport, "connections": options.connections, "ssh": carrier}
        if carrier == "openssh":
            transport["ssh_config"] = os.path.abspath(options.ssh_config)
        with open(os.path.join(place, "equipment", "SCOPE_01.yaml"), "w") as file:
            json.dump({"id": "SCOPE_01", "local_root": os.path.join(folder, "lab"), "transport": transport}, file)
        command = [program, "--config", config, "--quiet"]
        before = server_seconds(nas)
        first = timed(command + ["enqueue", run])
        second = timed(command + ["drain"])
        time.sleep(0.5)
        served = server_seconds(nas) - before
        status = json.loads(subprocess.run(command + ["--json", "status", run], capture_output=True, text=True).stdout)
        proof = subprocess.run(["sha256sum", "--quiet", "-c", ".exlab-wizard/checksums.sha256"], cwd=remote).returncode
    if first[0] or second[0] or proof or status["state"] != "verified" or status["evidence"] != "server":
        sys.exit(f"{carrier}: exit {first[0]}/{second[0]}, {status['state']}, sha256sum -c {proof}, {status['last_error']}")
    return {"wall": first[1] + second[1], "cpu": first[2] + second[2], "server": served, "peak": max(first[3], second[3])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("workloads", nargs="*", default=["A", "B"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=4)
    # The machine's own configuration is no part of the measurement.
    parser.add_argument("--ssh-config", default="/dev/null")
    options = parser.parse_intermixed_args()
    program = os.path.abspath(options.program)
    for name in options.workloads:
        with tempfile.TemporaryDirectory(prefix="nassync-carriers-", dir=os.environ.get("SCRATCH") or "/dev/shm") as folder:
            relative = f"SCOPE_01/Bench/Runs/Run_{name}"
            os.makedirs(os.path.join(folder, "lab", relative))
            {"A": workload_a, "B": workload_b}[name](os.path.join(folder, "lab", relative))
            nas = PrivateNAS(os.path.join(folder, "nas"))
            nas.start()
            try:
                results = {carrier: [] for carrier in CARRIERS}
                for _ in range(options.rounds):
                    for carrier in CARRIERS:
                        results[carrier].append(round_of(program, carrier, options, nas, folder, relative))
            finally:
                nas.stop()
        for carrier in CARRIERS:
            def figure(key, rows=results[carrier]):
                values = [row[key] for row in rows]
                return f"{statistics.median(values):6.2f} ({min(values):.2f} to {max(values):.2f})"
            peak = max(row["peak"] for row in results[carrier])
            print(f"{name} {options.connections} connections {carrier:8} wall {figure('wall')} s  cpu {figure('cpu')} s"
                  f"  server {figure('server')} s  peak {peak:.0f} MB", flush=True)
        medians = [statistics.median(row["wall"] for row in results[carrier]) for carrier in CARRIERS]
        print(f"{name} {options.connections} connections openssh / builtin {medians[1] / medians[0]:.2f}", flush=True)


if __name__ == "__main__":
    main()
