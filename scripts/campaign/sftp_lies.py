"""The lies of `lying_sftp.py`: each a function of the server and a request that gives the bytes to answer with.

`legal`: an honest server may do the same, so that the run has to arrive all the same.
"""

import fcntl
import os
import random
import struct
import sys
import time

import lying_sftp as sftp
from lying_sftp import (
    CLOSE, DENIED, EXTENDED, FAILURE, FSETSTAT, FSTAT, LSTAT, MISSING, MKDIR, OK, OPEN, OPENDIR, READ, READDIR, READLINK, REMOVE, RENAME, RMDIR,
    SETSTAT, STAT, SYMLINK, UNSUPPORTED, WRITE, u32,
)  # fmt: skip

LIES = {}
_EVERYTHING = (
    OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, STAT, RENAME, READLINK, SYMLINK, EXTENDED
)  # fmt: skip
_ATTRIBUTES = (LSTAT, STAT, FSTAT)


class _Lie:
    def __init__(self, tell, kinds, extension, legal, begin):
        self._tell, self.kinds, self._extension = tell, kinds, extension
        self.legal, self.begin = legal, begin or (lambda server: None)

    def concerns(self, request):
        return request.kind in self.kinds and (self._extension is None or request.extension.startswith(self._extension))

    def __call__(self, server, request):
        return self._tell(server, request)


def _lie(name, *kinds, extension=None, legal=False, begin=None):
    def add(tell):
        LIES[name] = _Lie(tell, kinds, extension, legal, begin)
        return tell

    return add


def _says(code, words=b""):
    return lambda server, request: server.status(request, code, words)


# Writing

_lie("drops writes", WRITE)(_says(OK))
_lie("no space", WRITE)(_says(FAILURE, b"No space left on device"))
_lie("no space, and no word of it", WRITE)(_says(FAILURE))
_lie("write denied", WRITE)(_says(DENIED))
_lie("close fails", CLOSE)(_says(FAILURE))
_lie("open fails", OPEN)(_says(FAILURE))
_lie("mkdir not done", MKDIR)(_says(OK))
_lie("mkdir fails", MKDIR)(_says(FAILURE))
_lie("rename not done", RENAME, EXTENDED, extension=b"")(lambda server, request: _not_renamed(server, request))
_lie("remove not done", REMOVE, RMDIR)(_says(OK))
_lie("remove fails", REMOVE, RMDIR)(_says(FAILURE))
_lie("fsync fails", EXTENDED, extension=b"fsync")(_says(FAILURE))
_lie("fsync unsupported", EXTENDED, extension=b"fsync")(_says(UNSUPPORTED))
_lie("fsync not done", EXTENDED, extension=b"fsync", legal=True)(_says(OK))
_lie("times refused", SETSTAT, FSETSTAT)(_says(DENIED))
_lie("times ignored", SETSTAT, FSETSTAT)(_says(OK))
_lie("link not made", SYMLINK)(_says(OK))


def _not_renamed(server, request):
    if request.kind == RENAME or request.extension.startswith(b"posix-rename"):
        return server.status(request, OK)
    return server.honest(request)


@_lie("rename done and denied", RENAME)
def _renamed_and_denied(server, request):
    server.honest(request)
    return server.status(request, FAILURE)


@_lie("rename overwrites", RENAME)
def _overwrites(server, request):
    if os.path.isdir(request.other) and not os.path.islink(request.other):
        os.rename(request.other, request.other + b".overwritten")
    os.rename(request.path, request.other)
    return server.status(request, OK)


@_lie("drops the last write", WRITE, CLOSE)
def _drops_last(server, request):
    lengths = server.__dict__.setdefault("lengths", {})
    if request.kind == WRITE:
        lengths[request.handle] = len(request.data)
    elif request.handle in lengths:
        size = os.stat(request.path).st_size
        os.truncate(request.path, max(0, size - lengths.pop(request.handle)))
    return server.honest(request)


@_lie("one byte too few", CLOSE)
def _one_less(server, request):
    content = server.handles.get(request.handle, (None,))[0]
    if isinstance(content, int) and fcntl.fcntl(content, fcntl.F_GETFL) & os.O_ACCMODE and os.path.exists(request.path):
        os.truncate(request.path, max(0, os.stat(request.path).st_size - 1))
    return server.honest(request)


@_lie("one wrong byte", WRITE)
def _wrong_byte(server, request):
    data = bytearray(request.data)
    if data:
        data[len(data) // 2] ^= 1
    request.data = bytes(data)
    return server.honest(request)


@_lie("writes beside", WRITE)
def _beside(server, request):
    request.offset += 1
    return server.honest(request)


# Sizes and kinds


def _sized(change):
    def tell(server, request):
        reply = bytearray(server.honest(request))
        if reply[4] == sftp.ATTRS:
            size = struct.unpack_from(">Q", reply, 13)[0]
            struct.pack_into(">Q", reply, 13, change(size) & (2**64 - 1))
        return bytes(reply)

    return tell


_lie("sizes too large by one", *_ATTRIBUTES)(_sized(lambda size: size + 1))
_lie("sizes of zero", *_ATTRIBUTES)(_sized(lambda size: 0))
_lie("sizes beyond all", *_ATTRIBUTES)(_sized(lambda size: 2**63 + 5))
_lie("nothing exists", *_ATTRIBUTES)(_says(MISSING))


@_lie("everything exists", *_ATTRIBUTES)
def _everything_exists(server, request):
    reply = server.honest(request)
    return reply if reply[4] == sftp.ATTRS else server.reply(request, sftp.ATTRS, sftp.attributes(os.stat("/dev/null"), 5))


@_lie("everything is a link", *_ATTRIBUTES)
def _all_links(server, request):
    reply = bytearray(server.honest(request))
    if reply[4] == sftp.ATTRS:
        struct.pack_into(">I", reply, 29, 0o120777)
    return bytes(reply)


@_lie("sizes of zero in listings", READDIR)
def _listed_zero(server, request):
    entries = server.handles[request.handle][0]
    found = [(name, sftp.attributes(status, 0)) for name, status in entries]
    entries.clear()
    return server.reply(request, sftp.NAME, sftp.names(found)) if found else server.status(request, sftp.EOF)


@_lie("another link's target", READLINK)
def _other_target(server, request):
    return server.reply(request, sftp.NAME, sftp.names([(b"/etc/passwd", u32(0))]))


# Reading


def _read(change):
    def tell(server, request):
        data = os.pread(server.handles[request.handle][0], min(request.length, 1 << 18), request.offset)
        changed = change(request, data)
        return server.status(request, sftp.EOF) if changed is None else server.reply(request, sftp.DATA, sftp.string(changed))

    return tell


_lie("reads other bytes", READ)(_read(lambda request, data: bytes(len(data)) or None))
_lie("reads end early", READ)(_read(lambda request, data: data[: len(data) // 2] or None if request.offset == 0 else None))
_lie("reads without end", READ)(_read(lambda request, data: data or bytes(request.length)))
_lie("reads more than asked", READ)(_read(lambda request, data: data + bytes(request.length)))
_lie("reads nothing, for ever", READ)(_read(lambda request, data: b""))
_lie("reads a byte at a time", READ, legal=True)(_read(lambda request, data: data[:4096] or None))

# Listing


def _lists(name):
    def tell(server, request):
        entries = server.handles[request.handle][0]
        found = [(b, sftp.attributes(status)) for b, status in entries]
        if entries:
            found.insert(0, (name, sftp.attributes(os.stat("/etc/hostname"))))
        entries.clear()
        return server.reply(request, sftp.NAME, sftp.names(found)) if found else server.status(request, sftp.EOF)

    return tell


for _name in (b"../x", b"/etc/passwd", b"a/b", b"", b"nul\0nul", b"..", b"x" * 60000, b"\xff\xfe\x1b[2J"):
    _lie(f"lists {_name[:12]!r}", READDIR)(_lists(_name))
_lie("lists nothing", READDIR)(_says(sftp.EOF))
_lie("lists no names, for ever", READDIR)(lambda server, request: server.reply(request, sftp.NAME, u32(0)))
_lie("lists one name for ever", READDIR)(lambda server, request: server.reply(request, sftp.NAME, sftp.names([(b"same", u32(0))])))
_lie("lists more than the packet holds", READDIR)(lambda server, request: server.reply(request, sftp.NAME, u32(2**31) + bytes(40)))


@_lie("lists without end", READDIR)
def _endless(server, request):
    server.listed = getattr(server, "listed", 0) + 1
    page = [(b"%08d-%03d-" % (server.listed, number) + b"n" * 100, u32(0)) for number in range(500)]
    return server.reply(request, sftp.NAME, sftp.names(page))


# The protocol


def _raw(content):
    return lambda server, request: content(server, request) if callable(content) else content


_lie("a packet of 4 GiB", *_EVERYTHING)(_raw(b"\xff\xff\xff\xff" + bytes(100_000)))
_lie("a packet of nothing", *_EVERYTHING)(_raw(u32(0)))
_lie("random bytes", *_EVERYTHING)(lambda server, request: server.framed(random.Random(request.id).randbytes(60)))
_lie("an answer to nobody", *_EVERYTHING)(lambda server, request: _with_id(server.honest(request), 0xABCDEF01))
_lie("the next one's answer", *_EVERYTHING)(lambda server, request: _with_id(server.honest(request), request.id + 1))
_lie("answers twice", *_EVERYTHING)(lambda server, request: server.honest(request) * 2)
_lie("answers of the wrong kind", *_EVERYTHING)(lambda server, request: server.reply(request, sftp.DATA, sftp.string(b"?")))
_lie("a status out of range", *_EVERYTHING)(_says(4711))
_lie("OK to everything", *_EVERYTHING)(_says(OK))
_lie("end of file to everything", *_EVERYTHING)(_says(sftp.EOF))
_lie("a message of 200 KB", *_EVERYTHING)(_says(FAILURE, b"\x1b[31m" + b"m" * 200_000))
_lie("a status without words", *_EVERYTHING, legal=True)(lambda server, request: _wordless(server, request))
_lie("a handle of 300 bytes", OPEN, OPENDIR)(lambda server, request: server.reply(request, sftp.HANDLE, sftp.string(bytes(300))))
_lie("a handle of 10 MB", OPEN, OPENDIR)(lambda server, request: server.reply(request, sftp.HANDLE, sftp.string(bytes(10 << 20))))
_lie("one handle for all", OPEN, OPENDIR)(lambda server, request: _same_handle(server, request))
_lie("answers in another order", begin=lambda server: setattr(server, "holds_back", True), legal=True)(None)
_lie("no extensions", begin=lambda server: server.extensions.clear(), legal=True)(None)
_lie("version 6", begin=lambda server: setattr(server, "version", 6))(None)
_lie("words before SFTP", begin=lambda server: setattr(server, "greeting", b"Welcome to the NAS\r\n"))(None)
_lie("limits of one byte", EXTENDED, extension=b"limits", legal=True)(
    lambda server, request: server.reply(request, sftp.EXTENDED_REPLY, struct.pack(">4Q", 1, 1, 1, 1))
)
_lie("limits beyond all", EXTENDED, extension=b"limits")(
    lambda server, request: server.reply(request, sftp.EXTENDED_REPLY, b"\xff" * 32)
)
_lie("no room by statvfs", EXTENDED, extension=b"statvfs")(
    lambda server, request: server.reply(request, sftp.EXTENDED_REPLY, struct.pack(">11Q", 4096, 4096, 100, 0, 0, 9, 9, 9, 1, 0, 255))
)
_lie("random statvfs", EXTENDED, extension=b"statvfs")(lambda server, request: server.reply(request, sftp.EXTENDED_REPLY, b"\xee" * 60))


def _with_id(packet, number):
    return packet[:5] + u32(number) + packet[9:]


def _wordless(server, request):
    reply = server.honest(request)
    return server.framed(reply[4:13]) if reply[4] == sftp.STATUS else reply


def _same_handle(server, request):
    server.honest(request)
    number = b"%d" % server.count
    if number in server.handles:
        server.handles[b"one"] = server.handles.pop(number)
    return server.reply(request, sftp.HANDLE, sftp.string(b"one"))


@_lie("cut in mid of an answer", *_EVERYTHING)
def _cut(server, request):
    reply = server.honest(request)
    server.write(reply[: len(reply) // 2])
    sys.exit(0)


@_lie("answers without end", *_EVERYTHING)
def _never_ending(server, request):
    while True:
        server.write(server.status(request, OK) * 1000)


@_lie("half a packet and silence", *_EVERYTHING)
def _half(server, request):
    reply = server.honest(request)
    server.write(reply[: len(reply) // 2])
    server.hang()


@_lie("slow", *_EVERYTHING, legal=True)
def _slow(server, request):
    time.sleep(0.01)
    return server.honest(request)


for _word, _kind in (
    ("open", OPEN), ("write", WRITE), ("close", CLOSE), ("lstat", LSTAT), ("mkdir", MKDIR), ("rename", RENAME), ("read", READ), ("readdir", READDIR),
    ("remove", REMOVE), ("any extension", EXTENDED), ("fsetstat", FSETSTAT),
):  # fmt: skip
    _lie(f"hangs at {_word}", _kind)(lambda server, request: server.hang())


# Lies of the hashing programs, by `lying_hash.py`, and things that lie on the NAS's disk before the run comes.
HASH_LIES = (
    "constant digest", "another file's digest", "right digest, another name", "garbage", "endless output", "nothing", "hangs", "short digest",
    "one line too few", "one line too many", "right, and exit 1", "half a line",
)  # fmt: skip
PLANTED = ("staging is a link", "a folder in staging is a link", "a file in staging is a link", "a neighbour's run")
