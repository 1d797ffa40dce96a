"""The demo's NAS: an SSH server of its own on a free loopback port, with its own host key, its own authorised key and its own folder.

Nothing of the machine's own SSH set-up is read or changed, and every process it started is gone after `stop()`.
"""

import getpass
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time


class CannotStart(RuntimeError):
    """The server did not come up; the message says why."""


class PrivateNAS:
    """A running server. `folder` is the root that the instruments' runs go to."""

    def __init__(self, base):
        self.base = pathlib.Path(base)
        self.keys = self.base / "keys"
        self.folder = self.base / "nas" / "lab"
        self.log = self.base / "nas" / "sshd.log"
        self.host, self.port = "127.0.0.1", 0
        self.user = getpass.getuser()
        self.user_key, self.known_hosts = self.keys / "id_ed25519", self.keys / "known_hosts"
        self._process = None

    def start(self):
        """Makes keys, starts the server and waits until it answers. Raises CannotStart."""
        self.keys.mkdir(mode=0o700, parents=True)
        self.folder.mkdir(parents=True)
        for name, comment in (("host_key", "demo NAS"), ("id_ed25519", "demo workstation")):
            _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(self.keys / name)])
        shutil.copy(self.keys / "id_ed25519.pub", self.keys / "authorized_keys")
        program = shutil.which("sshd") or next((p for p in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if os.path.exists(p)), None)
        if program is None:
            raise CannotStart("there is no sshd on this machine; scripts/install-dependencies installs it")
        if os.geteuid() == 0:
            # Where root's sshd locks its unprivileged half in. Debian makes it when the service starts, which here it may never have.
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        reason = ""
        for _ in range(5):
            self.port = _free_port()
            self._write_configuration()
            with open(self.log, "ab") as log:
                # The absolute path matters: sshd starts itself again for every connection. Its own session: Ctrl-C is for the demo to handle.
                self._process = subprocess.Popen(
                    [program, "-D", "-e", "-f", str(self.keys / "sshd_config")],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            if self._wait_until_it_answers():
                key = (self.keys / "host_key.pub").read_text().split()
                self.known_hosts.write_text(f"[{self.host}]:{self.port} {key[0]} {key[1]}\n")
                return
            # Another program may have taken the port between the look and the start.
            reason = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["no answer"]
            self.stop()
        raise CannotStart(f"sshd did not start: {reason[0]}")

    def stop(self):
        """Stops the server and everything it started for its connections. Does nothing where it does not run."""
        if self._process is None:
            return
        processes = [self._process.pid, *_descendants(self._process.pid)]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in processes:
                try:
                    os.kill(process, number)
                except ProcessLookupError:
                    pass
            try:
                self._process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                continue
            if number == signal.SIGTERM:
                time.sleep(0.05)
                if not any(os.path.exists(f"/proc/{process}") for process in processes):
                    break
        self._process = None

    def _wait_until_it_answers(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection((self.host, self.port), timeout=1) as connection:
                    if connection.recv(4) == b"SSH-":
                        return self._process.poll() is None
            except OSError:
                time.sleep(0.05)
        return False

    def _write_configuration(self):
        (self.keys / "sshd_config").write_text(
            f"""ListenAddress {self.host}
Port {self.port}
HostKey {self.keys}/host_key
AuthorizedKeysFile {self.keys}/authorized_keys
PidFile {self.keys}/sshd.pid
StrictModes no
UsePAM {"yes" if _account_is_locked(self.user) else "no"}
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowUsers {self.user}
X11Forwarding no
AllowTcpForwarding no
PrintMotd no
MaxStartups 50
Subsystem sftp internal-sftp
"""
        )


def _run(command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise CannotStart(f"{command[0]}: {(result.stderr or result.stdout).strip()}")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _account_is_locked(user):
    """Without PAM, sshd refuses an account whose password field starts with `!`, even for a key. Only root can and must look."""
    if os.geteuid() != 0:
        return False
    result = subprocess.run(["getent", "shadow", user], capture_output=True, text=True)
    return result.stdout.partition(":")[2].startswith("!")


def _descendants(root):
    """Ids of all processes below one, from /proc: sessions of sshd leave its process group."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                # The name in parentheses may hold anything, so the fields count from the last one.
                fields = pathlib.Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry))
            except (OSError, IndexError, ValueError):
                continue
    found, waiting = [], [root]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found
