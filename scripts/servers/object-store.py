#!/usr/bin/python3
"""A real object store with an S3 interface, on free ports of 127.0.0.1 and in a folder of its own, until it is told to end.

    object-store.py swift|ceph FOLDER [--while-stdin-open]

swift: OpenStack Swift with its s3api, a single node.     Packages: swift-proxy swift-account swift-container swift-object
ceph:  Ceph's gateway on one disk that is kept in memory.  Packages: radosgw ceph-mon ceph-osd ceph-mgr ceph-common

Once it answers, it writes `FOLDER/store.json` (mode 0600) and prints one line, READY. The file says {kind, endpoint, region, access_key_id,
secret_access_key, virtual_host, disk}: `virtual_host` is the name below which it knows buckets as hosts; `disk` is the folder that holds the
objects' bytes, or null. Servers of its own that fail make it end with 1 and the reason on standard error.

It ends, with every process that it started, on SIGTERM or SIGINT, with --while-stdin-open also at the end of its standard input. Where it is
killed outright, the kernel kills what it started. The folder is the caller's to remove.

Debian's own Python is named above because OpenStack Swift's modules are installed for that one.
"""

import ctypes
import json
import os
import pathlib
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

HOST = "127.0.0.1"
# libcurl and systemd's resolver take every name below `localhost` for this machine.
VIRTUAL_HOST = "s3.localhost"
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class CannotStart(RuntimeError):
    """A server did not come up; the message says why."""


class Ended(Exception):
    """Somebody wants it to end."""


class Servers:
    """The processes, all of which end when one of them does."""

    def __init__(self, folder):
        self.folder = folder
        self._running = []

    def start(self, name, command, environment=None):
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=environment, preexec_fn=_die_with_parent
            )
        self._running.append((name, process))

    def check(self):
        """Raises CannotStart where one has ended."""
        for name, process in self._running:
            if process.poll() is not None:
                raise CannotStart(f"{name} ended with {process.returncode}: {self.last_words(name)}")

    def wait_for(self, answers, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not answers():
            self.check()
            if time.monotonic() > deadline:
                raise CannotStart(f"{what} did not answer within {seconds} s")
            time.sleep(0.05)

    def last_words(self, name):
        return " / ".join((self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()[-3:])

    def stop(self):
        # A process that the test has frozen must go too.
        for number in (signal.SIGTERM, signal.SIGCONT):
            for _, process in self._running:
                if process.poll() is None:
                    process.send_signal(number)
        deadline = time.monotonic() + 2
        for _, process in self._running:
            try:
                process.wait(timeout=max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def swift(folder, servers):
    """One node with one disk: a proxy before an account, a container and an object server, each a single process."""
    # Imported here: the other store does without.
    try:
        from swift.common.ring import RingBuilder
    except ImportError as error:
        raise CannotStart("OpenStack Swift is not installed; scripts/install-dependencies installs it") from error
    user = pwd.getpwuid(os.geteuid()).pw_name
    ports = dict(zip(("proxy", "account", "container", "object"), free_ports(4)))
    disk = folder / "devices" / "d1"
    disk.mkdir(parents=True)
    (folder / "swift.conf").write_text(
        f"[swift-hash]\nswift_hash_path_prefix = {secrets.token_hex(8)}\nswift_hash_path_suffix = {secrets.token_hex(8)}\n"
        "[storage-policy:0]\nname = Policy-0\ndefault = yes\n"
    )
    # `log_address` names nothing: what they say belongs into their own logs, not into the machine's.
    common = f"bind_ip = {HOST}\nuser = {user}\nswift_dir = {folder}\nworkers = 0\nlog_address = {folder}/none\n"
    for name in ("account", "container", "object"):
        (folder / f"{name}.conf").write_text(
            f"[DEFAULT]\n{common}bind_port = {ports[name]}\ndevices = {disk.parent}\nmount_check = false\n"
            f"fallocate_reserve = 0\ndisable_fallocate = true\n[pipeline:main]\npipeline = {name}-server\n"
            f"[app:{name}-server]\nuse = egg:swift#{name}\nreplication_server =\n"
        )
        builder = RingBuilder(2, 1, 1)
        builder.add_dev({
            "region": 1, "zone": 1, "ip": HOST, "port": ports[name], "replication_ip": HOST, "replication_port": ports[name],
            "device": disk.name, "weight": 1, "meta": "",
        })  # fmt: skip
        builder.rebalance()
        builder.get_ring().save(str(folder / f"{name}.ring.gz"))
    access, secret = "test:tester", secrets.token_hex(16)
    filters = {
        "catch_errors": "", "gatekeeper": "", "healthcheck": "", "listing_formats": "", "bulk": "", "copy": "", "slo": "", "dlo": "",
        "symlink": "", "versioned_writes": "allow_object_versioning = true\n",
        # Nothing listens there, so nothing is cached: every request sees what is on the disk.
        "cache": f"memcache_servers = {HOST}:1\n",
        "tempauth": f"user_{access.replace(':', '_')} = {secret} .admin\n",
        "s3api": f"location = us-east-1\ns3_acl = false\nstorage_domain = {VIRTUAL_HOST}\n",
    }  # fmt: skip
    names = {"cache": "memcache"}
    (folder / "proxy.conf").write_text(
        f"[DEFAULT]\n{common}bind_port = {ports['proxy']}\n[pipeline:main]\npipeline = catch_errors gatekeeper healthcheck cache "
        "listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink proxy-server\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\naccount_autocreate = true\n"
        + "".join(f"[filter:{name}]\nuse = egg:swift#{names.get(name, name)}\n{lines}" for name, lines in filters.items())
    )
    (folder / "proxy.conf").chmod(0o600)
    for name in ("account", "container", "object", "proxy"):
        servers.start(name, [program(f"swift-{name}-server"), str(folder / f"{name}.conf"), "-v"])
    for name in ("account", "container", "object", "proxy"):
        servers.wait_for(lambda: answers(ports[name]), f"swift-{name}-server")
    return ports["proxy"], access, secret, disk


def ceph(folder, servers):
    """A monitor, one disk in memory, a gateway."""
    monitor, gateway = free_ports(2)
    identifier = pathlib.Path("/proc/sys/kernel/random/uuid").read_text().strip()
    (folder / "ceph.conf").write_text(
        f"""[global]
fsid = {identifier}
mon host = [v2:{HOST}:{monitor}]
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
ms bind ipv4 = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 4000
mon data avail crit = 1
osd objectstore = memstore
memstore device bytes = 8589934592
osd data = {folder}/osd
mon data = {folder}/mon
public addr = {HOST}
cluster addr = {HOST}
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.daemon.log
pid file =
keyring = {folder}/keyring
rgw frontends = beast endpoint={HOST}:{gateway}
rgw dns name = {VIRTUAL_HOST}
rgw enable usage log = false
rgw run sync thread = false
# What is deleted leaves the memory soon.
rgw gc obj min wait = 5
rgw gc processor period = 5
"""
    )
    environment = dict(os.environ, CEPH_CONF=str(folder / "ceph.conf"))

    def run(*command):
        try:
            result = subprocess.run(
                [program(command[0]), *command[1:]], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=60, preexec_fn=_die_with_parent,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CannotStart(f"{' '.join(command)} did not end") from error
        if result.returncode != 0:
            raise CannotStart(f"{' '.join(command[:3])}: {result.stderr.strip()[-300:]}")
        return result.stdout.strip()

    run("ceph-authtool", "--create-keyring", "keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    all_caps = [word for service in ("mon", "osd", "mgr") for word in ("--cap", service, "allow *")]
    run("ceph-authtool", "keyring", "--gen-key", "-n", "client.admin", *all_caps)
    run("monmaptool", "--create", "--clobber", "--fsid", identifier, "--addv", "a", f"[v2:{HOST}:{monitor}]", "monmap")
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
    servers.start("mon", [program("ceph-mon"), "-f", "-i", "a"], environment)
    number = run("ceph", "osd", "create")
    run("ceph-osd", "-i", number, "--mkfs", "--no-mon-config")
    run("ceph", "osd", "crush", "add", f"osd.{number}", "1.0", "root=default", "host=localhost")
    caps = ["mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *"]
    with open(folder / "keyring", "a") as keyring:
        keyring.write(run("ceph", "auth", "get-or-create", f"osd.{number}", *caps) + "\n")
    servers.start("osd", [program("ceph-osd"), "-f", "-i", number], environment)
    servers.start("gateway", [program("radosgw"), "-f", "-n", "client.admin"], environment)
    access, secret = "LAB" + secrets.token_hex(8).upper(), secrets.token_hex(16)
    # Known to nobody but these servers, which end with us: it may stand among the arguments for this moment.
    run("radosgw-admin", "user", "create", "--uid", "lab", "--display-name", "lab", "--access-key", access, "--secret", secret)
    servers.wait_for(lambda: answers(gateway), "radosgw")
    return gateway, access, secret, None


def program(name):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None:
        raise CannotStart(f"there is no {name} on this machine; scripts/install-dependencies installs it")
    return found


def free_ports(count):
    """All of them taken before the first is given back, so that none comes twice. Below those that the kernel hands out itself, so that
    no program that asks for any port gets one before the server has it."""
    probes = []
    try:
        while len(probes) < count:
            probe = socket.socket()
            probes.append(probe)
            try:
                probe.bind((HOST, random.randrange(12000, 32000)))
            except OSError:
                probes.pop().close()
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def answers(port):
    """Whether anything at all is said over HTTP, if only that this is not how to ask."""
    try:
        urllib.request.urlopen(f"http://{HOST}:{port}/healthcheck", timeout=1).close()
        return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


def _die_with_parent():
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(*_):
    raise Ended


def _watch_stdin():
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments):
    kinds = {"swift": swift, "ceph": ceph}
    options = [word for word in arguments if word.startswith("--")]
    words = [word for word in arguments if not word.startswith("--")]
    if len(words) != 2 or words[0] not in kinds or any(option != "--while-stdin-open" for option in options):
        print(__doc__, file=sys.stderr)
        return 2
    folder = pathlib.Path(words[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    servers = Servers(folder)
    try:
        if options:
            threading.Thread(target=_watch_stdin, daemon=True).start()
        port, access, secret, disk = kinds[words[0]](folder, servers)
        state = {
            "kind": words[0], "endpoint": f"http://{HOST}:{port}", "region": "us-east-1", "access_key_id": access,
            "secret_access_key": secret, "virtual_host": VIRTUAL_HOST, "disk": str(disk) if disk else None,
        }  # fmt: skip
        descriptor = os.open(folder / "store.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(state, file)
        print("READY", flush=True)
        while True:
            servers.check()
            time.sleep(0.2)
    except Ended:
        return 0
    except CannotStart as problem:
        print(f"object-store: {problem}", file=sys.stderr, flush=True)
        return 1
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        servers.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
