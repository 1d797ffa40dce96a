#!/usr/bin/env python3
"""An SFTP server (version 3, with OpenSSH's extensions) over standard input and output, that is honest unless it is told a lie.

    lying_sftp.py FOLDER

sshd starts one for each connection. `FOLDER/lie.json`, where it exists, names the lie (see `sftp_lies.py`) and when it is told:
`{"name": …, "skip": requests that are answered honestly first, "times": how often it is told, "probes": whether of the program's probes, too}`.
"""

import errno
import json
import os
import pathlib
import select
import stat
import struct
import sys
import time

OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = range(3, 21)
EXTENDED = 200
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 101, 102, 103, 104, 105, 201
OK, EOF, MISSING, DENIED, FAILURE, UNSUPPORTED = 0, 1, 2, 3, 4, 8
EXTENSIONS = {b"posix-rename@openssh.com": b"1", b"statvfs@openssh.com": b"2", b"hardlink@openssh.com": b"1", b"fsync@openssh.com": b"1",
              b"limits@openssh.com": b"1"}  # fmt: skip
_LONGEST = 256 * 1024
_PROBE = b".nassync-probe-"


def u32(number):
    return struct.pack(">I", number & 0xFFFFFFFF)


def string(content):
    return u32(len(content)) + content


def attributes(found, size=None):
    """The attributes of an `os.stat_result`."""
    return struct.pack(
        ">IQIIIII", 0xF, found.st_size if size is None else size, found.st_uid, found.st_gid, found.st_mode, int(found.st_atime), int(found.st_mtime)
    )


def names(entries):
    """The body of a NAME reply of `(name, attributes)`."""
    return u32(len(entries)) + b"".join(string(name) + string(b"-rw-r--r-- " + name) + attrs for name, attrs in entries)


class Request:
    """A request, taken apart as far as its kind has parts."""

    def __init__(self, packet, handles):
        self.kind, self.id = packet[0], struct.unpack_from(">I", packet, 1)[0]
        self._packet, self._at = packet, 5
        self.extension = self.take() if self.kind == EXTENDED else b""
        self.path = self.other = self.data = b""
        self.handle, self.offset, self.length, self.flags = b"", 0, 0, 0
        if self.kind in (CLOSE, READ, WRITE, FSTAT, FSETSTAT, READDIR) or self.extension == b"fsync@openssh.com":
            self.handle = self.take()
            self.path = handles.get(self.handle, (None, b""))[1]
        elif self.extension != b"limits@openssh.com":
            self.path = self.take()
        if self.kind in (READ, WRITE):
            self.offset = struct.unpack_from(">Q", packet, self._at)[0]
            self._at += 8
        if self.kind == READ:
            self.length = self.number()
        elif self.kind == WRITE:
            self.data = self.take()
        elif self.kind in (RENAME, SYMLINK) or self.extension in (b"posix-rename@openssh.com", b"hardlink@openssh.com"):
            self.other = self.take()
        elif self.kind == OPEN:
            self.flags = self.number()

    def number(self):
        self._at += 4
        return struct.unpack_from(">I", self._packet, self._at - 4)[0]

    def take(self):
        length = self.number()
        self._at += length
        return self._packet[self._at - length : self._at]

    def attributes(self):
        """{…} of what SETSTAT and the like want to set."""
        flags, wanted = self.number(), {}
        if flags & 1:
            wanted["size"] = struct.unpack_from(">Q", self._packet, self._at)[0]
            self._at += 8
        if flags & 2:
            self._at += 8
        if flags & 4:
            wanted["mode"] = self.number()
        if flags & 8:
            wanted["times"] = (self.number(), self.number())
        return wanted

    @property
    def is_probe(self):
        return _PROBE in self.path or _PROBE in self.other


class Server:
    """Answers requests by what the disk says."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.handles, self.count, self.version, self.extensions = {}, 0, 3, dict(EXTENSIONS)
        self.greeting = b""
        # What is kept back: a server may answer in any order.
        self.holds_back, self.held = False, []

    # Packets

    def run(self, answer):
        """Reads requests until the end. `answer(server, request)` gives the bytes to send."""
        while True:
            packet = self._packet()
            if packet is None:
                return
            if packet[0] == 1:
                more = b"".join(string(name) + string(value) for name, value in self.extensions.items())
                self.write(self.greeting + self.framed(b"\x02" + u32(self.version) + more))
                continue
            reply = answer(self, Request(packet, self.handles))
            if not self.holds_back:
                self.write(reply)
                continue
            self.held.append(reply)
            if len(self.held) >= 16 or not select.select([0], [], [], 0.003)[0]:
                self.write(b"".join(reversed(self.held)))
                self.held = []

    def _packet(self):
        header = self._read(4)
        return None if header is None else self._read(struct.unpack(">I", header)[0])

    @staticmethod
    def _read(count):
        parts = []
        while count:
            part = os.read(0, count)
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    @staticmethod
    def write(content):
        view = memoryview(content)
        while view:
            view = view[os.write(1, view) :]

    @staticmethod
    def framed(body):
        return u32(len(body)) + body

    def reply(self, request, kind, body):
        return self.framed(bytes([kind]) + u32(request.id) + body)

    def status(self, request, code, words=b""):
        return self.reply(request, STATUS, u32(code) + string(words) + string(b""))

    def hang(self):
        """Says nothing more, until nobody listens any more."""
        poller = select.poll()
        poller.register(1, 0)
        for _ in range(600):
            if poller.poll(200):
                break
        sys.exit(0)

    # What the disk says

    def honest(self, request):
        try:
            return self._do(request)
        except OSError as problem:
            codes = {errno.ENOENT: MISSING, errno.ENOTDIR: MISSING, errno.EACCES: DENIED, errno.EPERM: DENIED}
            return self.status(request, codes.get(problem.errno, FAILURE), os.strerror(problem.errno or 0).encode())

    def _do(self, request):
        kind, path = request.kind, request.path
        done = self.status(request, OK)
        if kind == OPEN:
            flags = {1: os.O_RDONLY, 2: os.O_WRONLY, 3: os.O_RDWR}[request.flags & 3]
            for bit, flag in ((0x08, os.O_CREAT), (0x10, os.O_TRUNC), (0x20, os.O_EXCL)):
                flags |= flag if request.flags & bit else 0
            return self._handle(request, os.open(path, flags, 0o644))
        if kind == OPENDIR:
            entries = [(name, os.lstat(os.path.join(path, name))) for name in [b".", b"..", *os.listdir(path)]]
            return self._handle(request, entries)
        if request.handle and request.handle not in self.handles:
            return self.status(request, FAILURE, b"no such handle")
        content = self.handles[request.handle][0] if request.handle else None
        if kind == CLOSE:
            del self.handles[request.handle]
            if isinstance(content, int):
                os.close(content)
            return done
        if kind == READ:
            data = os.pread(content, min(request.length, _LONGEST), request.offset)
            return self.reply(request, DATA, string(data)) if data else self.status(request, EOF)
        if kind == WRITE:
            os.pwrite(content, request.data, request.offset)
            return done
        if kind == READDIR:
            entries = content[:100]
            del content[:100]
            found = [(name, attributes(status)) for name, status in entries]
            return self.reply(request, NAME, names(found)) if found else self.status(request, EOF)
        if kind in (LSTAT, STAT, FSTAT):
            found = os.fstat(content) if kind == FSTAT else (os.lstat if kind == LSTAT else os.stat)(path)
            return self.reply(request, ATTRS, attributes(found))
        if kind in (SETSTAT, FSETSTAT):
            self._set(content if kind == FSETSTAT else path, request.attributes())
            return done
        if kind in (REALPATH, READLINK):
            target = os.readlink(path) if kind == READLINK else os.path.realpath(path or b".")
            return self.reply(request, NAME, names([(target, u32(0))]))
        return self._change(request, done)

    def _change(self, request, done):
        kind, path, other = request.kind, request.path, request.other
        if kind == RENAME or request.extension == b"hardlink@openssh.com":
            if os.path.lexists(other):
                return self.status(request, FAILURE, b"File exists")
            (os.rename if kind == RENAME else os.link)(path, other)
        elif request.extension == b"posix-rename@openssh.com":
            os.rename(path, other)
        elif request.extension == b"fsync@openssh.com":
            os.fsync(self.handles[request.handle][0])
        elif request.extension == b"statvfs@openssh.com":
            found = os.statvfs(path)
            words = (found.f_bsize, found.f_frsize, found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree, found.f_favail, 1, 0, 255)
            return self.reply(request, EXTENDED_REPLY, struct.pack(">11Q", *words))
        elif request.extension == b"limits@openssh.com":
            return self.reply(request, EXTENDED_REPLY, struct.pack(">4Q", _LONGEST + 1024, _LONGEST - 1024, _LONGEST - 1024, 200))
        elif kind == SYMLINK:
            # OpenSSH's order: what it leads to comes first.
            os.symlink(path, other)
        elif kind in (REMOVE, MKDIR, RMDIR):
            {REMOVE: os.unlink, MKDIR: os.mkdir, RMDIR: os.rmdir}[kind](path)
        else:
            return self.status(request, UNSUPPORTED)
        return done

    def _handle(self, request, content):
        self.count += 1
        handle = b"%d" % self.count
        self.handles[handle] = (content, request.path)
        return self.reply(request, HANDLE, string(handle))

    @staticmethod
    def _set(target, wanted):
        if "size" in wanted:
            os.truncate(target, wanted["size"])
        if "mode" in wanted:
            os.chmod(target, stat.S_IMODE(wanted["mode"]))
        if "times" in wanted:
            os.utime(target, wanted["times"])


class Liar:
    """Decides which requests are lied about."""

    def __init__(self, lie, tell):
        self.lie, self.tell = lie, tell
        self.skip, self.times = lie.get("skip", 0), lie.get("times", 1 << 60)

    def answer(self, server, request):
        if not self.tell.concerns(request) or (request.is_probe and not self.lie.get("probes")):
            return server.honest(request)
        if self.skip > 0 or self.times <= 0:
            self.skip -= 1
            return server.honest(request)
        self.times -= 1
        with open(server.folder / "told", "a") as file:
            file.write(f"{time.time():.3f} {request.kind} {request.path!r}\n")
        return self.tell(server, request)


def main():
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    import sftp_lies

    server = Server(sys.argv[1])
    answer = Server.honest
    if (server.folder / "lie.json").exists():
        lie = json.loads((server.folder / "lie.json").read_text())
        told = sftp_lies.LIES.get(lie["name"])
        if told:
            told.begin(server)
            answer = Liar(lie, told).answer
    try:
        server.run(answer)
    except (BrokenPipeError, ConnectionError):
        pass


if __name__ == "__main__":
    main()
