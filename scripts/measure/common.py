"""What the measurements share: workloads made from seeds, commands that are timed, a workstation's configuration, the server's CPU seconds."""

import json
import os
import random
import subprocess
import time

BLOCK = 16 << 20


def one_file(size):
    """Workload A: one file of so many bytes."""

    def make(folder):
        block = random.Random(2).randbytes(BLOCK)
        with open(os.path.join(folder, "stack.bin"), "wb") as file:
            for number in range(size // BLOCK):
                file.write(number.to_bytes(8, "little") + block[8:])

    return make


def small_files(count, size=4096, each=100):
    """Workloads B and D: so many files of so many bytes, `each` to a folder."""

    def make(folder):
        maker = random.Random(1)
        for number in range(count):
            place = os.path.join(folder, f"plate_{number // each:04d}")
            if number % each == 0:
                os.makedirs(place, exist_ok=True)
            with open(os.path.join(place, f"well_{number:06d}.fcs"), "wb") as file:
                file.write(maker.randbytes(size))

    return make


def mixed(folder):
    """Workload C: 400 files of 2 MiB, 2,000 of 20 KiB and one of 512 MiB."""
    maker = random.Random(3)
    block = maker.randbytes(2 << 20)
    for number in range(400):
        place = os.path.join(folder, f"field_{number // 20:02d}")
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, f"image_{number:03d}.tif"), "wb") as file:
            file.write(number.to_bytes(8, "little") + block[8:])
        for part in range(5):
            with open(os.path.join(place, f"image_{number:03d}_{part}.json"), "wb") as file:
                file.write(maker.randbytes(20 << 10))
    os.makedirs(os.path.join(folder, "stack"))
    one_file(512 << 20)(os.path.join(folder, "stack"))


def timed(arguments, **options):
    """Runs a command; (exit code, wall seconds, CPU seconds of it and of all it waited for, peak MB of the largest of them)."""
    started = time.monotonic()
    process = subprocess.Popen(arguments, **options)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def configure(folder, transport, lab=None):
    """Writes a workstation's configuration with one instrument; the path of the file."""
    os.makedirs(os.path.join(folder, "equipment"))
    with open(os.path.join(folder, "nassync.yaml"), "w") as file:
        file.write("state_dir: ./state\nequipment_dir: ./equipment\n")
    with open(os.path.join(folder, "equipment", "SCOPE_01.yaml"), "w") as file:
        json.dump({"id": "SCOPE_01", "local_root": lab or os.path.join(folder, "lab"), "transport": transport}, file)
    return os.path.join(folder, "nassync.yaml")


def server_seconds(process_id):
    """CPU seconds of a server and of those of its children that it has seen the end of."""
    with open(f"/proc/{process_id}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def loopback_bytes():
    """Bytes that the loopback interface has carried so far, both ways, whoever sent them."""
    with open("/proc/net/dev") as file:
        for line in file:
            name, _, numbers = line.partition(":")
            if name.strip() == "lo":
                return int(numbers.split()[0])
    return 0
