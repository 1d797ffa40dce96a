"""The servers under the campaign, one of each driver, and a place of its own on one of them for each case: looked at past every protocol."""

import os
import pathlib
import shutil
import stat
import subprocess
import sys
import threading

_HERE = pathlib.Path(__file__).resolve().parent
_SCRIPTS = pathlib.Path(__file__).resolve().parents[1]
for folder in ("demo", "servers"):
    sys.path.insert(0, str(_SCRIPTS / folder))
import s3  # noqa: E402
from nas import CannotStart, PrivateNAS, descendants, free_port  # noqa: E402, F401
from store import PrivateStore  # noqa: E402
from webdav_nas import PrivateWebDAV  # noqa: E402


class _NASWithShell(PrivateNAS):
    """An account whose shell starts with nothing of this machine's own profile, which may take longer than all the rest."""

    more = ""

    @property
    def _environment(self):
        return {**super()._environment, "HOME": self.base}

    def _write_configuration(self):
        super()._write_configuration()
        with open(self.keys / "sshd_config", "a", encoding="utf-8") as file:
            file.write(self.more)

    def again(self, port=None):
        """Starts it again after `stop()`, with what it has: as after a reboot. `port`: another one. Raises CannotStart."""
        if port:
            self.port = port
            self._write_configuration()
        for _ in range(20):
            with open(self.log, "ab") as log:
                self.launch([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(self.keys / "sshd_config")], stdout=log, stderr=log)
            if self._wait_until_it_answers():
                return
            self.stop()
        raise CannotStart("sshd did not start again")


class _NASWithoutShell(_NASWithShell):
    """An account that may transfer files and nothing else: everything is read back."""

    more = "ForceCommand internal-sftp\n"


class _NASByOpenSSH(_NASWithShell):
    """The same, reached through the system's ssh."""

    @property
    def transport(self):
        return {**super().transport, "ssh": "openssh"}


_HASHING = """#!/bin/sh
case "$*" in
*.nassync-probe-*) grep -qs '"probes": true' {json} || exec {real} "$@" ;;
*) [ -e {json} ] || exec {real} "$@" ;;
esac
exec {python} {liar} {folder} {program} "$@"
"""


class _LyingNAS(_NASWithShell):
    """Its SFTP server is a program of ours (lying_sftp.py), and so are the programs that hash there (lying_hash.py)."""

    forced = False

    @property
    def _environment(self):
        return {**super()._environment, "PATH": f"{self.base / 'lies' / 'bin'}:/usr/bin:/bin"}

    def _write_configuration(self):
        self.lies = self.base / "lies"
        (self.lies / "bin").mkdir(parents=True, exist_ok=True)
        for program in ("sha256sum", "shasum", "openssl"):
            # The program itself where it is to be honest: ours takes longer to start than a busy machine's deadlines allow.
            script = self.lies / "bin" / program
            script.write_text(_HASHING.format(json=self.lies / "bin" / "hash.json", real=shutil.which(program) or "/bin/false", python=sys.executable,
                                              liar=_HERE / "lying_hash.py", folder=self.lies, program=program))  # fmt: skip
            script.chmod(0o755)
        PrivateNAS._write_configuration(self)
        file = self.keys / "sshd_config"
        server = f"{sys.executable} {_HERE / 'lying_sftp.py'} {self.lies}"
        text = file.read_text().replace("Subsystem sftp internal-sftp", f"Subsystem sftp {server}")
        if self.forced:
            only = self.lies / "only"
            only.write_text(f'#!/bin/sh\ncase "$SSH_ORIGINAL_COMMAND" in *lying_sftp*) exec {server};; esac\necho "This service allows sftp connections only."\n')
            only.chmod(0o755)
            text += f"ForceCommand {only}\n"
        file.write_text(text)


class _LyingNASWithoutShell(_LyingNAS):
    forced = True


class Side:
    """A running server of one driver."""

    def __init__(self, driver, base):
        self.driver = driver
        self.server = _SERVERS[driver](base)
        self._names = threading.Lock()

    @property
    def in_place(self):
        """Whether nothing can be renamed there, so that the manifest alone says that a run is there."""
        return self.driver == "s3"

    @property
    def keeps_links(self):
        return self.driver.startswith("sftp")

    @property
    def has_shell(self):
        return self.driver in ("sftp-shell", "sftp-openssh")

    def start(self):
        """Raises CannotStart."""
        self.server.start()

    def stop(self):
        self.server.stop()

    def place(self, name, folder=None):
        """A new root on the server. `folder`: where on this machine it is to lie instead, for a disk of its own."""
        if self.driver == "s3":
            return _StorePlace(self.server, name)
        return _FolderPlace(self.server, name, folder)


class _FolderPlace:
    """A folder that the server shares."""

    def __init__(self, server, name, folder=None):
        self.root = os.fsencode(server.folder / name)
        self.transport = dict(server.transport)
        os.mkdir(self.root)
        # Apache works under an account of its own.
        os.chmod(self.root, 0o777)
        if folder is not None:
            os.rmdir(self.root)
            os.symlink(folder, self.root)
        if "url" in self.transport:
            self.transport["url"] += f"/{name}"
        else:
            self.transport["remote_root"] += f"/{name}"

    def get(self, path):
        """A file's bytes, None where there is none."""
        try:
            with open(os.path.join(self.root, path), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def is_there(self, path):
        """Whether anything has the name, a folder too."""
        return os.path.lexists(os.path.join(self.root, path))

    def names(self, path=b""):
        """Paths, seen from the root, of all that lies below one: files and links, and folders with a slash after them."""
        found = []
        for parent, folders, files in os.walk(os.path.join(self.root, path)):
            below = os.path.relpath(parent, self.root)
            below = b"" if below == b"." else below + b"/"
            for name in folders:
                found.append(below + name + (b"" if os.path.islink(os.path.join(parent, name)) else b"/"))
            found += [below + name for name in files]
        return found

    def unpacks(self):
        """Whether a `tar` works below here at this moment: small files go in a stream where the account has a shell."""
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    if pathlib.Path(entry.path, "comm").read_bytes() == b"tar\n" and os.readlink(os.fsencode(entry.path) + b"/cwd").startswith(self.root + b"/"):
                        return True
                except OSError:  # Gone meanwhile.
                    continue
        return False

    def put(self, path, content):
        """Writes a file as somebody else would, with another inode but the time of the one before."""
        target = os.path.join(self.root, path)
        before = os.stat(target) if os.path.exists(target) else None
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "r+b" if before else "wb") as file:
            file.write(content)
            file.truncate()
        if before:
            os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))

    def delete(self, path):
        os.unlink(os.path.join(self.root, path))

    def remove(self):
        shutil.rmtree(os.path.realpath(self.root) if os.path.islink(self.root) else self.root, ignore_errors=True)
        if os.path.islink(self.root):
            os.unlink(self.root)

    def copy_to(self, folder):
        """Keeps what lies there, for whoever looks at a failure."""
        subprocess.run(["cp", "-a", os.path.realpath(self.root), str(folder)], check=False)


class _StorePlace:
    """A prefix of a bucket."""

    def __init__(self, server, name):
        self.transport = dict(server.transport)
        self.transport["prefix"] += f"/{name}"
        self._prefix = self.transport["prefix"].encode() + b"/"
        self._state, self._bucket_name = server.base / "store" / "store.json", server.bucket
        self._bucket = s3.Bucket(self._state, self._bucket_name)
        # What stands for the prefix: a root that nothing lies in looks like a volume that is not mounted.
        self._bucket.put(self._prefix + b".campaign", b"")

    def get(self, path):
        try:
            return self._bucket.get(self._prefix + path)
        except s3.Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    def is_there(self, path):
        return self.get(path) is not None

    def names(self, path=b""):
        start = self._prefix + (path + b"/" if path else b"")
        found = [key[len(self._prefix) :] for key, _ in self._bucket.list(start)]
        return [name for name in found if name != b".campaign"]

    def put(self, path, content):
        self._bucket.put(self._prefix + path, content)

    def delete(self, path):
        self._bucket.delete(self._prefix + path)

    def remove(self):
        """It goes with the store: deleting object by object would take longer than the case did."""

    def copy_to(self, folder):
        for name in self.names():
            path = pathlib.Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
            if name.endswith(b"/"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.get(name) or b"")


_SERVERS = {"sftp-shell": _NASWithShell, "sftp-only": _NASWithoutShell, "sftp-openssh": _NASByOpenSSH, "webdav": PrivateWebDAV, "s3": PrivateStore}
DRIVERS = tuple(_SERVERS)
# Where it makes no difference which program carries SFTP.
PROTOCOLS = tuple(driver for driver in DRIVERS if driver != "sftp-openssh")


class LyingSide(Side):
    """A server that lies on request; see lying_sftp.py."""

    def __init__(self, driver, base):
        self.driver = driver
        self.server = (_LyingNAS if driver == "sftp-shell" else _LyingNASWithoutShell)(base)


def is_folder(path):
    """Without following a link."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
