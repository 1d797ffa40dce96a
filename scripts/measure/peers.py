"""The programs that a lab would use instead, each at its best settings: how a run is pushed with them and, where they can, checked."""

import os
import shlex
import shutil


class Place:
    """Where a peer sends to: a server's address and keys, and an empty folder there."""

    def __init__(self, nas, port, folder):
        self.user, self.host, self.port, self.folder = nas.user, nas.host, port, folder
        self.key, self.known_hosts = str(nas.user_key), folder.parent.parent.parent / "peer_known_hosts"
        line = nas.known_hosts.read_text().split(" ", 1)[1]
        self.known_hosts.write_text(f"[{nas.host}]:{port} {line}")

    @property
    def ssh_options(self):
        # The machine's own configuration is no part of the measurement.
        return [
            "-F", "/dev/null", "-i", self.key, "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "BatchMode=yes",
            "-o", "IdentitiesOnly=yes",
        ]  # fmt: skip

    @property
    def ssh(self):
        return shlex.join(["ssh", "-p", str(self.port), *self.ssh_options])


class Peer:
    """One program. `push` and `check` are commands; a peer without a check proves nothing."""

    name = ""
    program = ""

    @property
    def is_there(self):
        return shutil.which(self.program) is not None

    def push(self, place, run):
        raise NotImplementedError

    def check(self, place, run):
        return None

    def environment(self, place):
        return None


class Rsync(Peer):
    name, program = "rsync", "rsync"

    def push(self, place, run):
        return ["rsync", "-a", "-e", place.ssh, run + "/", f"{place.user}@{place.host}:{place.folder}/"]

    def check(self, place, run):
        return ["rsync", "-ac", "-e", place.ssh, run + "/", f"{place.user}@{place.host}:{place.folder}/"]


class Rclone(Peer):
    name, program = "rclone", "rclone"
    # Larger chunks and more of them at once are what its manual advises for OpenSSH's server.
    _flags = ("--transfers", "16", "--checkers", "16", "--sftp-chunk-size", "255k", "--sftp-concurrency", "64")

    def environment(self, place):
        return {
            **os.environ, "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_NAS_TYPE": "sftp", "RCLONE_CONFIG_NAS_HOST": place.host,
            "RCLONE_CONFIG_NAS_PORT": str(place.port), "RCLONE_CONFIG_NAS_USER": place.user, "RCLONE_CONFIG_NAS_KEY_FILE": place.key,
            "RCLONE_CONFIG_NAS_KNOWN_HOSTS_FILE": str(place.known_hosts), "RCLONE_CONFIG_NAS_SHELL_TYPE": "unix",
            "RCLONE_CONFIG_NAS_MD5SUM_COMMAND": "md5sum", "RCLONE_CONFIG_NAS_SHA1SUM_COMMAND": "sha1sum",
        }  # fmt: skip

    def push(self, place, run):
        return ["rclone", "copy", "-q", *self._flags, run, f"NAS:{place.folder}"]

    def check(self, place, run):
        return ["rclone", "check", "-q", *self._flags, run, f"NAS:{place.folder}"]


class SFTP(Peer):
    name, program = "sftp", "sftp"

    def push(self, place, run):
        batch = f"put -R {shlex.quote(run)}/* {shlex.quote(str(place.folder))}/\n"
        return ["sh", "-c", f'printf %s "$1" | sftp -q -b - -P {place.port} {shlex.join(place.ssh_options)} {place.user}@{place.host}', "sftp", batch]


class SCP(Peer):
    name, program = "scp", "scp"

    def push(self, place, run):
        return ["scp", "-r", "-q", "-P", str(place.port), *place.ssh_options, run + "/.", f"{place.user}@{place.host}:{place.folder}/"]


class Tar(Peer):
    name, program = "tar | ssh", "tar"

    def push(self, place, run):
        far = f"tar -C {shlex.quote(str(place.folder))} -xf -"
        return ["sh", "-c", f"tar -C {shlex.quote(run)} -cf - . | {place.ssh} {place.user}@{place.host} {shlex.quote(far)}"]


class LFTP(Peer):
    name, program = "lftp", "lftp"

    def push(self, place, run):
        script = (
            f'set sftp:connect-program "{place.ssh} -a -x"; set net:max-retries 1; set cmd:fail-exit yes; open sftp://{place.user}:@{place.host}:{place.port};'
            f" mirror -R -P 8 {shlex.quote(run)} {shlex.quote(str(place.folder))}"
        )
        return ["lftp", "--norc", "-c", script]


PEERS = {peer.name: peer for peer in (Rsync(), Rclone(), SFTP(), SCP(), Tar(), LFTP())}
