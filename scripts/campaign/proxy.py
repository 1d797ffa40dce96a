"""A TCP proxy on loopback that stands for the network: it counts what passes, and cuts, resets, stalls, trickles, delays or loses it on request.

One thread a direction. It understands nothing of what passes but where SSH's key exchange ends.
"""

import re
import select
import socket
import struct
import threading
import time

from nas_side import free_port

UP, DOWN = 0, 1
# What a fault does to a connection that it strikes.
KINDS = ("cut", "reset", "stall", "lost", "swallowed", "trickle")
# What new connections meet while the network is down.
OUTAGES = ("refused", "blackhole", "silent", "reset")
_NEWKEYS = 21
_CHUNK = 65536
_ESTABLISHED = "01"
# Encrypted bytes of a log-in with an ed25519 key, about, by direction.
_LOGIN = (900, 700)
_REQUEST = re.compile(rb"([A-Z]+ [^ ]+) HTTP/1\.1\r\n")
# Seconds without a byte that say that nobody waits for any.
_PAUSE = 0.2
# What a server sends to agree on TLS, at least: 774 bytes with a small certificate of one elliptic curve.
_TLS = 750


class Fault:
    """Strikes the `connection`-th connection from now (from 1) once `offset` bytes went in a direction. `outage`: one of OUTAGES where
    everything else is struck with it, and whoever connects then meets that, until `Proxy.heal`."""

    def __init__(self, kind, connection, direction, offset, outage=None):
        self.kind, self.connection, self.direction, self.offset, self.outage = kind, connection, direction, offset, outage

    def __str__(self):
        way = ("to the NAS", "from the NAS")[self.direction]
        lasting = f", and from then on {self.outage}" if self.outage else ""
        return f"{self.kind} of connection {self.connection} after {self.offset} bytes {way}{lasting}"


class _HandshakeReader:
    """Follows one direction of SSH up to its NEWKEYS, as far as its packets can be read."""

    def __init__(self):
        self.phase, self.encrypted = "banner", 0
        self._buffer = b""

    def feed(self, data):
        if self.phase == "encrypted":
            self.encrypted += len(data)
            return
        self._buffer += data
        if self.phase == "banner" and b"\n" in self._buffer:
            self._buffer = self._buffer.partition(b"\n")[2]
            self.phase = "key exchange"
        while self.phase == "key exchange" and len(self._buffer) >= 6:
            length = struct.unpack_from(">I", self._buffer)[0] + 4
            if len(self._buffer) < length:
                return
            if self._buffer[5] == _NEWKEYS:
                self.phase, self.encrypted = "encrypted", len(self._buffer) - length
            self._buffer = self._buffer[length:]


class Link:
    """One connection through the proxy."""

    def __init__(self, number, client, is_ssh):
        self.number, self.client, self.server = number, client, None
        self.client_port = client.getpeername()[1]
        self.passed = [0, 0]
        # How much had passed after each piece: where a fault can strike that all of a conversation is hit, not only its bulk.
        self.marks = ([0], [0])
        self.opened = time.monotonic()
        # When the fault struck, and when the client had done with the connection.
        self.struck = self.closed = None
        # What passed last and when; whether nothing was under way when an outage struck, and when something was asked after that.
        self.last = (None, 0.0)
        self.was_idle, self.asked = False, None
        # The first line of the last request, where it can be read.
        self.request = b""
        self.kind = None
        self.frozen = [False, False]
        self.ended = False
        self.is_tls = False
        # Notes of whoever judges.
        self.where, self.judged, self.counted = "", False, False
        self._readers = (_HandshakeReader(), _HandshakeReader()) if is_ssh else ()
        self._lock = threading.Lock()

    def count(self, direction, data):
        self.passed[direction] += len(data)
        self.last = (direction, time.monotonic())
        if len(self.marks[direction]) < 4000:
            self.marks[direction].append(self.passed[direction])
        if self._readers:
            self._readers[direction].feed(data)

    def note_question(self, data):
        """Something has come from the client, whether it goes on or not."""
        if self.struck is not None and self.asked is None:
            self.asked = time.monotonic()
        if line := _REQUEST.match(data):
            self.request = line[1]

    @property
    def is_idle(self):
        """Whether the server spoke last, and that a while ago: between question and answer, and within an answer, there is less time."""
        return self.last[0] == DOWN and time.monotonic() - self.last[1] > _PAUSE

    @property
    def phase(self):
        """How far the connection had come, as far as can be seen from outside."""
        phases = [reader.phase for reader in self._readers]
        if self.passed == [0, 0]:
            return "connect"
        if not phases:
            return "TLS" if self.is_tls and self.passed[DOWN] < _TLS else "request"
        for phase in ("banner", "key exchange"):
            if phase in phases:
                return phase
        if any(reader.encrypted < enough for reader, enough in zip(self._readers, _LOGIN)):
            return "authentication"
        return "session"

    def end(self, reset=False):
        """Closes both sides, once."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
        if reset:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for side in (self.client, self.server):
            if side is None:
                continue
            if not reset or side is self.server:
                try:
                    # Wakes the other direction's thread.
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            side.close()


class Proxy:
    """Listens on a port of its own and passes on to `target` (a port on this machine)."""

    def __init__(self, target, latency=0.0, rate=None):
        self.target, self.latency, self.rate = target, latency, rate
        self.links, self.passed = [], [0, 0]
        self.fault, self.on_strike = None, None
        self.is_ssh = self.is_tls = False
        self._armed_at, self._outage = 0, None
        self._lock = threading.Lock()
        self._listener, self._fillers = None, []
        self._over = threading.Event()
        # None that the kernel gives to somebody else while nobody listens here.
        self.port = free_port()
        self._listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    # What a case asks for

    def arm(self, fault):
        with self._lock:
            self.fault, self._armed_at = fault, len(self.links)

    def down(self, outage):
        """The network is down from now on: whatever goes through is struck, too."""
        with self._lock:
            self.fault, self._outage = None, outage
            links = [link for link in self.links if not link.ended]
        self._arrange()
        for link in links:
            self._strike(link, "reset" if outage in ("reset", "refused") else "stall")

    def heal(self):
        """Everything passes again. What stalled stays so: a connection does not come back from that."""
        with self._lock:
            self.fault = self._outage = None
        self._arrange()

    def stop(self):
        self._over.set()
        self._thread.join(timeout=5)
        for link in self.links:
            link.end()
        self._unlisten()

    @property
    def is_down(self):
        return self._outage is not None

    @property
    def struck(self):
        """The connections that a fault struck."""
        return [link for link in self.links if link.struck is not None]

    # Listening

    def _listen(self, backlog=64):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for _ in range(200):
            try:
                listener.bind(("127.0.0.1", self.port))
                break
            except OSError:
                # Whoever just waits on the former listener keeps it for a moment.
                time.sleep(0.01)
        listener.listen(backlog)
        self._listener = listener

    def _unlisten(self):
        for one in [self._listener, *self._fillers]:
            if one is not None:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                one.close()
        self._listener, self._fillers = None, []

    def _arrange(self):
        """Listens, or does not, as the outage wants."""
        with self._lock:
            self._unlisten()
            if self._outage == "refused":
                return
            self._listen(0 if self._outage == "blackhole" else 64)
            if self._outage == "blackhole":
                # A full queue: the kernel drops whoever wants to connect, without a word.
                for _ in range(4):
                    filler = socket.socket()
                    filler.setblocking(False)
                    filler.connect_ex(("127.0.0.1", self.port))
                    self._fillers.append(filler)

    def _serve(self):
        while not self._over.is_set():
            self._look_for_ends()
            with self._lock:
                listener = self._listener if self._outage != "blackhole" else None
            if listener is None:
                time.sleep(0.02)
                continue
            try:
                if not select.select([listener], [], [], 0.02)[0]:
                    continue
                client, _ = listener.accept()
            except (OSError, ValueError):
                continue
            self._accept(client)

    def _look_for_ends(self):
        """A connection that nothing is read from any more: whether the client has given it up. Its end does not arrive here while what it had
        sent before is not taken, so the kernel is asked for the state of the client's side."""
        standing = [link for link in self.links if link.struck is not None and link.closed is None and not link.ended]
        if not standing:
            return
        with open("/proc/net/tcp") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        open_ports = {
            int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _ESTABLISHED and int(row[2].rpartition(":")[2], 16) == self.port
        }
        for link in standing:
            if link.client_port not in open_ports:
                link.closed = time.monotonic()
                link.end()

    def _accept(self, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            link = Link(len(self.links) + 1, client, self.is_ssh)
            link.is_tls = self.is_tls
            self.links.append(link)
            outage = self._outage
        if outage:
            self._strike(link, "stall" if outage in ("silent", "blackhole") else "reset")
            return
        try:
            link.server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            # As if nobody listened at all.
            link.end(reset=True)
            return
        link.server.settimeout(None)
        link.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for direction in (UP, DOWN):
            threading.Thread(target=self._pump, args=(link, direction), daemon=True).start()

    # Passing on

    def _pump(self, link, direction):
        source, sink = (link.client, link.server) if direction == UP else (link.server, link.client)
        try:
            while True:
                data = source.recv(_CHUNK)
                if not data:
                    break
                if direction == UP:
                    link.note_question(data)
                head = self._to_pass(link, direction, data)
                if link.kind == "swallowed" and link.frozen[direction]:
                    continue
                self._hold(link, direction)
                if link.ended:
                    return
                self._pass(link, direction, sink, head)
                # The fault strikes between two bytes.
                if self._is_due(link, direction):
                    self._strike(link, self.fault.kind, direction)
                    if link.kind == "trickle":
                        self._pass(link, direction, sink, data[len(head) :])
                if link.kind != "swallowed":
                    self._hold(link, direction)
        except OSError:
            pass
        if direction == UP and link.closed is None:
            link.closed = time.monotonic()
        if link.struck is not None or link.ended:
            link.end()
            return
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            link.end()

    def _to_pass(self, link, direction, data):
        """What of it still goes through before the fault strikes; the rest is lost with the connection."""
        fault = self._fault_of(link, direction)
        return data if fault is None else data[: max(0, fault.offset - link.passed[direction])]

    def _fault_of(self, link, direction):
        fault = self.fault
        is_its = fault and link.struck is None and link.number == self._armed_at + fault.connection and direction == fault.direction
        return fault if is_its else None

    def _is_due(self, link, direction):
        fault = self._fault_of(link, direction)
        return fault is not None and link.passed[direction] >= fault.offset

    def _pass(self, link, direction, sink, data):
        if self.latency:
            time.sleep(self.latency)
        pieces = [data]
        if link.kind == "trickle":
            pieces = [data[i : i + 1] for i in range(len(data))]
        for piece in pieces:
            if not piece:
                continue
            sink.sendall(piece)
            link.count(direction, piece)
            with self._lock:
                self.passed[direction] += len(piece)
            if link.kind == "trickle":
                time.sleep(1)
            elif self.rate:
                time.sleep(len(piece) / self.rate)
            if link.ended:
                return

    @staticmethod
    def _hold(link, direction):
        while link.frozen[direction] and not link.ended:
            time.sleep(0.01)

    def _strike(self, link, kind, direction=None):
        with self._lock:
            fault, first = self.fault, link.struck is None
            if not first:
                return
            link.kind, link.struck = kind, time.monotonic()
            # One that the fault itself strikes is struck in the midst of something.
            link.was_idle = direction is None and link.is_idle
            if kind in ("stall",):
                link.frozen = [True, True]
            elif kind in ("lost", "swallowed"):
                link.frozen[direction] = True
            is_the_fault = fault is not None and direction is not None
            if is_the_fault:
                self.fault = None
        if kind in ("cut", "reset"):
            link.end(reset=kind == "reset")
        if is_the_fault:
            if fault.outage:
                self.down(fault.outage)
            if self.on_strike:
                self.on_strike(link)

