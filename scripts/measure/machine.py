"""What the machine itself can do, measured in the same run: without it no figure can be judged."""

import os
import platform
import re
import socket
import subprocess
import tempfile
import threading
import time


def limits(base):
    """{name: MB/s or text}."""
    found = {"cores": os.cpu_count(), "processor": _processor(), "kernel": platform.release()}
    for name in ("sha256", "aes-128-gcm", "aes-128-ctr", "chacha20-poly1305"):
        found[name] = _openssl(name)
    found["loopback"] = _loopback()
    found["disk"] = _disk(base)
    return found


def _processor():
    with open("/proc/cpuinfo") as file:
        match = re.search(r"model name\s*:\s*(.*)", file.read())
    return match.group(1) if match else platform.machine()


def _openssl(name):
    """MB/s of one core on blocks of 16 KiB."""
    result = subprocess.run(
        ["openssl", "speed", "-mr", "-seconds", "1", "-bytes", "16384", "-evp", name], capture_output=True, text=True, check=False)
    match = re.search(r"^\+F:\d+:[^:]*:([0-9.]+)", result.stdout, re.MULTILINE)
    return round(float(match.group(1)) / 1e6) if match else None


def _loopback(size=1 << 30):
    """MB/s of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def send():
            with socket.create_connection(server.getsockname()) as client:
                piece = bytes(1 << 20)
                for _ in range(size >> 20):
                    client.sendall(piece)

        sender = threading.Thread(target=send)
        sender.start()
        connection, _ = server.accept()
        started, buffer = time.monotonic(), bytearray(1 << 20)
        with connection:
            while connection.recv_into(buffer):
                pass
        sender.join()
    return round(size / (time.monotonic() - started) / 1e6)


def _disk(base, size=512 << 20):
    """MB/s of writing and flushing a file where the measurement's data lie."""
    with tempfile.NamedTemporaryFile(dir=base) as file:
        piece, started = os.urandom(8 << 20), time.monotonic()
        for _ in range(size // len(piece)):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        return round(size / (time.monotonic() - started) / 1e6)
