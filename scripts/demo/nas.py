"""The demo's NAS: a server of its own on a free loopback port, with its own keys and its own folder. Here the one for SFTP, and what all share.

Nothing of the machine's own set-up is read or changed, and every process that was started is gone after `stop()`.
"""

import getpass
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time


class CannotStart(RuntimeError):
    """The server did not come up; the message says why."""


class PrivateServer:
    """A server program with all that it starts, ended by process id."""

    host = "127.0.0.1"

    def __init__(self):
        self._process = None

    def launch(self, command, **options):
        # Its own session: Ctrl-C is for the demo to handle.
        self._process = subprocess.Popen(command, start_new_session=True, **{"stdin": subprocess.DEVNULL, **options})

    @property
    def runs(self):
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self):
        """Of the server itself; None where it does not run."""
        return self._process.pid if self.runs else None

    def stop(self):
        """Stops the server and everything it started for its connections. Does nothing where it does not run."""
        if self._process is None:
            return
        processes = [self._process.pid, *descendants(self._process.pid)]
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


class FolderNAS(PrivateServer):
    """A server that keeps what it is sent in `folder`, as a NAS does: the root that the instruments' runs go to. Paths are below it."""

    # What the tour calls it, and says of it.
    word = "NAS"
    sending = "Each run goes to a hidden folder on the NAS, is hashed there and compared, and appears under its name in one step."
    unseen = "Size and date stay the same, so a listing shows nothing."
    place = "The manifest lies beside the data in the format of sha256sum, so anybody on the NAS can check it, today or in ten years."

    def __init__(self, base):
        super().__init__()
        self.base = pathlib.Path(base)
        self.keys = self.base / "keys"
        self.folder = self.base / "nas" / "lab"
        self.port = 0

    def files(self):
        """{path: bytes} of all files there, without links."""
        return {
            str(path.relative_to(self.folder)): path.stat().st_size
            for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()
        }  # fmt: skip

    def flip(self, name):
        """Inverts the lowest bit of the byte in the middle of a file, past every protocol; a second time restores it. Says what it did."""
        path = self.folder / name
        before = path.stat()
        # Instruments like to write-protect what they wrote.
        path.chmod(before.st_mode | 0o600)
        with open(path, "r+b") as file:
            file.seek(before.st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        path.chmod(before.st_mode)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return f"byte {before.st_size // 2} of {name} is now wrong"

    def look(self):
        """A folder with what it holds, for the tools of any machine."""
        return self.folder


class PrivateNAS(FolderNAS):
    """An SSH server with SFTP."""

    def __init__(self, base):
        super().__init__(base)
        self.log = self.base / "nas" / "sshd.log"
        self.user = getpass.getuser()
        self.user_key, self.known_hosts = self.keys / "id_ed25519", self.keys / "known_hosts"

    @property
    def address(self):
        return f"sftp://{self.user}@{self.host}:{self.port}{self.folder}"

    @property
    def transport(self):
        """The section of an instrument's profile."""
        return {
            "type": "sftp", "host": self.host, "port": self.port, "user": self.user, "key_file": str(self.user_key),
            "known_hosts": str(self.known_hosts), "remote_root": str(self.folder), "connections": 2,
        }  # fmt: skip

    def start(self):
        """Makes keys, starts the server and waits until it answers. Raises CannotStart."""
        self.keys.mkdir(mode=0o700, parents=True)
        self.folder.mkdir(parents=True)
        for name, comment in (("host_key", "demo NAS"), ("id_ed25519", "demo workstation")):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(self.keys / name)])
        shutil.copy(self.keys / "id_ed25519.pub", self.keys / "authorized_keys")
        program = shutil.which("sshd") or next((p for p in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if os.path.exists(p)), None)
        if program is None:
            raise CannotStart("there is no sshd on this machine; scripts/install-dependencies installs it")
        if os.geteuid() == 0:
            # Where root's sshd locks its unprivileged half in. Debian makes it when the service starts, which here it may never have.
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        reason = ""
        for _ in range(5):
            self.port = free_port()
            self._write_configuration()
            with open(self.log, "ab") as log:
                # The absolute path matters: sshd starts itself again for every connection.
                self.launch([program, "-D", "-e", "-f", str(self.keys / "sshd_config")], stdout=log, stderr=log)
            if self._wait_until_it_answers():
                key = (self.keys / "host_key.pub").read_text().split()
                self.known_hosts.write_text(f"[{self.host}]:{self.port} {key[0]} {key[1]}\n")
                return
            # Another program may have taken the port between the look and the start.
            reason = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["no answer"]
            self.stop()
        raise CannotStart(f"sshd did not start: {reason[0]}")

    def _wait_until_it_answers(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.runs:
            try:
                with socket.create_connection((self.host, self.port), timeout=1) as connection:
                    if connection.recv(4) == b"SSH-":
                        return self.runs
            except OSError:
                time.sleep(0.05)
        return False

    @property
    def _environment(self):
        """Of the account's shell. So deep down, bash reads none of this machine's own profile, which may take longer than all the rest."""
        return {"SHLVL": "5"}

    def _write_configuration(self):
        environment = " ".join(f"{name}={value}" for name, value in self._environment.items())
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
SetEnv {environment}
MaxStartups 50
Subsystem sftp internal-sftp
"""
        )


def run(command, **options):
    """Runs a tool to its end; returns what it printed. Raises CannotStart where it fails."""
    options = options if "input" in options else {**options, "stdin": subprocess.DEVNULL}
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode != 0:
        raise CannotStart(f"{command[0]}: {(result.stderr or result.stdout).strip()}")
    return result.stdout


def free_port():
    """One on which nothing listens at the moment, below those that the kernel hands out itself: nobody else gets it by chance."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.randrange(12000, 32000)))
            except OSError:
                continue
            return probe.getsockname()[1]


def _account_is_locked(user):
    """Without PAM, sshd refuses an account whose password field starts with `!`, even for a key. Only root can and must look."""
    if os.geteuid() != 0:
        return False
    result = subprocess.run(["getent", "shadow", user], capture_output=True, text=True)
    return result.stdout.partition(":")[2].startswith("!")


def descendants(root):
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
