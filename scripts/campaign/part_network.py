"""Part 3: the network fails, in every phase and every way that a proxy of ours knows, and the server dies, moves or shows another host key.

It is noticed in time, costs no processor and no attempt, nothing that lies on the NAS is sent again, and once all is whole the run gets there
without a person.
"""

import math
import sqlite3
import time

import network_servers
from checker import Checker
from lab import Settings, Workstation, seeded
from metered import metered
from nas_side import DRIVERS
from proxy import DOWN, KINDS, OUTAGES, UP, Fault, Proxy

# The settings' limits, seconds: to log in, without progress; and after how much silence of an SSH connection it counts as dead, four
# times the shortest `keepalive`.
CONNECT, PROGRESS, KEEPALIVE = 3.0, 4.0, 2.0
# Beyond the limits and a tenth of them: ending a connection in order takes up to a second each for channel and session.
GRACE = 2.5
# What is sent again when a connection breaks, in seconds of this line: one until the next durable place is asked for, 0.7 (an SSH channel's window,
# 2 MiB) until that is answered, and as much again that went ahead into nothing.
_RATE, _LARGE, _OVERLAP = 3_000_000, 16_000_000, 2.6
_KINDS = (
    "broken", "broken", "outage", "service", "broken", "other command", "broken", "outage", "delay", "service", "broken", "large",
)  # fmt: skip
_ENDS = (0, 75)


def settings(**more):
    return Settings(**{"workers": 1, "retry": {"backoff": ["500ms"] * 8}, "verify": {"audit_interval": "1h"}, **more})


def limits(driver):
    """The part of a profile's transport section that says how long is waited."""
    return {"connect_timeout": f"{CONNECT}s", "timeout": f"{PROGRESS}s", **({"keepalive": f"{KEEPALIVE}s"} if driver.startswith("sftp") else {})}


def job_of(workstation, run):
    """The run's newest row in the queue, with the outage that is on record; None where there is none."""
    copy = workstation.sqlite(workstation.folder / "queue-look")
    if copy is None:
        return None
    connection = sqlite3.connect(copy)
    connection.row_factory = sqlite3.Row
    try:
        row = connection.execute("SELECT * FROM job WHERE run_path = ? ORDER BY generation DESC LIMIT 1", (str(run.path),)).fetchone()
        outage = connection.execute("SELECT since FROM outage").fetchone()
        return {**dict(row), "outage_since": outage[0] if outage else None} if row else None
    except sqlite3.DatabaseError:
        return None
    finally:
        connection.close()


class NetworkPart:
    """A case is a run on its way through a proxy, and one fault."""

    drivers = DRIVERS
    unavailable = ""

    def __init__(self, campaign, side):
        self.campaign, self.side = campaign, side
        # [(connection, direction, offsets)] of an undisturbed drain, and what it takes.
        self.marks, self.cpu, self.seconds, self.links = [], 0.0, 0.0, 1

    def prepare(self, folder):
        """Learns how many connections an undisturbed run makes, and what passes on each."""
        with Road(self, folder, f"{folder.name}", self.campaign.program) as road:
            for name in ("FIRST", "SECOND"):
                run = road.workstation.make_run(seeded("network"), name, links=self.side.keeps_links)
                road.workstation.run("enqueue", run.argument)
                before = len(road.proxy.links)
                result = metered(road.workstation, "drain")
                if result.code != 0:
                    raise RuntimeError(f"an undisturbed run through the proxy failed: {result}")
            self.marks = [
                (link.number - before, direction, link.marks[direction]) for link in road.proxy.links[before:] for direction in (UP, DOWN)
            ]
            self.cpu, self.seconds, self.links = result.cpu, result.seconds, max(1, len(road.proxy.links) - before)
            road.place.remove()

    def draw(self, random_, outage=None):
        """A fault at some point of a conversation: each piece that passed is as likely as any other, however long it was."""
        connection, direction, marks = random_.choices(self.marks, [len(marks) for _, _, marks in self.marks])[0]
        index = random_.randrange(len(marks))
        beyond = marks[index + 1] - marks[index] if index + 1 < len(marks) else 1
        # At its edge, or within it.
        offset = marks[index] + random_.choice((0, random_.randrange(max(1, beyond))))
        return Fault(random_.choice(KINDS), connection, direction, offset, outage)

    def case(self, case):
        kinds = (*_KINDS, *network_servers.KINDS) if self.side.driver.startswith("sftp") else _KINDS
        kind = kinds[case.number % len(kinds)]
        if kind in network_servers.KINDS:
            network_servers.go(self, case, kind)
            return
        if kind == "large" and self.side.driver == "s3":
            kind = "broken"
        rate = _RATE if kind == "large" else None
        latency = case.random.uniform(0.005, 0.08) if kind == "delay" else 0
        with Road(self, case.folder / "workstation", f"network-{case.number}", case.program, rate, latency) as road:
            case.workstations.append(road.workstation)
            _Journey(self, case, road).go(kind)


class Road:
    """A workstation whose NAS lies behind a proxy."""

    def __init__(self, part, folder, name, program, rate=None, latency=0.0):
        side = part.side
        self.place = side.place(name)
        self.proxy = Proxy(side.server.port if side.driver != "s3" else int(self.place.transport["endpoint"].rpartition(":")[2]), latency, rate)
        self.proxy.is_ssh, self.proxy.is_tls = side.driver.startswith("sftp"), side.driver == "webdav"
        transport = {**limits(side.driver), **self._through(side, folder)}
        self.workstation = Workstation(folder, program, self.place, settings(), transport)
        if self.proxy.is_ssh:
            key = (side.server.keys / "host_key.pub").read_text().split()
            (self.workstation.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.proxy.port} {key[0]} {key[1]}\n")

    def _through(self, side, folder):
        transport, port = self.place.transport, self.proxy.port
        if side.driver.startswith("sftp"):
            return {"port": port, "known_hosts": str(folder / "known_hosts"), "connections": 1}
        key = "url" if side.driver == "webdav" else "endpoint"
        return {key: transport[key].replace(f":{self.proxy.target}", f":{port}")}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proxy.stop()


class _Journey:
    def __init__(self, part, case, road):
        self.part, self.case, self.road, self.random = part, case, road, case.random
        self.workstation, self.proxy, self.driver = road.workstation, road.proxy, part.side.driver
        self.checker = Checker(self.workstation, case.side.in_place)
        self.run, self.where, self.told = None, "", ""

    def go(self, kind):
        self.run = self.workstation.make_run(self.random, "P", links=self.part.side.keeps_links)
        if kind == "large":
            self._make_large()
        self.proxy.on_strike = self._note
        result = self.workstation.run("enqueue", self.run.argument)
        if result.code != 0:
            self._tell(f"could not be prepared: {result}")
            return
        getattr(self, "_" + kind.replace(" ", "_"))()

    # The kinds of cases

    def _broken(self):
        """One connection breaks; whatever is opened anew works."""
        self._arm(self.part.draw(self.random))
        result = self._metered("drain", timeout=60)
        self._judge(result)
        if (job := job_of(self.workstation, self.run)) and job["attempts"] > 1:
            self._tell(f"{job['attempts']} attempts for one broken connection")
        self._arrive()

    def _outage(self):
        """The NAS answers nothing any more, from the start or from some point: two drains, and no attempt is used up."""
        outage = self.random.choice(OUTAGES)
        if self.random.random() < 0.4:
            self._down(outage)
        else:
            self._arm(self.part.draw(self.random, outage))
        first = self._metered("drain", timeout=60)
        self._judge(first)
        if self.proxy.struck or self.proxy.is_down:
            before = self._burnt_nothing()
            if before and before["state"] not in ("verified", "failed"):
                if first.code != 75:
                    self._tell(f"the NAS does not answer, and drain says {first.code}")
                time.sleep(0.6)
                self._judge(self._metered("drain", timeout=60))
                after = self._burnt_nothing()
                if after and before["outage_since"] and after["outage_since"] != before["outage_since"]:
                    self._tell("the start of the outage was forgotten")
                if after and after["outage_since"] is None:
                    self._tell("the outage is nowhere on record")
                if "destination_unreachable" not in self.workstation.run("problems", "--json").out:
                    self._tell("`problems` says nothing of the outage")
        self.proxy.heal()
        time.sleep(0.6)
        self._arrive()

    def _service(self):
        """The same under a service, which gets it there by itself once the network is whole."""
        outage, started = self.random.choice(OUTAGES), time.monotonic()
        if self.random.random() < 0.4:
            self._down(outage)
        else:
            self._arm(self.part.draw(self.random, outage if self.random.random() < 0.8 else None))
        patience, state = self.random.uniform(1, 7), {"healed": None, "looked": 0.0}

        def arrived():
            now = time.monotonic()
            struck = min([link.struck for link in self.proxy.struck], default=started)
            if state["healed"] is None and now - struck > patience and (self.proxy.struck or self.proxy.is_down or now - started > 12):
                if self.proxy.is_down:
                    self._burnt_nothing()
                self.proxy.heal()
                state["healed"] = now
            if now - state["looked"] < 0.3:
                return False
            state["looked"] = now
            job = job_of(self.workstation, self.run)
            return job is not None and job["state"] in ("verified", "cleanup_eligible")

        result = self._metered("serve", timeout=60, until=arrived)
        self._judge(result, ends=(0,))
        if result.late:
            self._tell(f"the service did not get it there by itself: {job_of(self.workstation, self.run)}")
        self._arrive("verified", "cleanup_eligible")

    def _large(self):
        """A break in mid of many bytes on a slow line: what is on the NAS is not sent again."""
        total = sum(map(len, self.run.files.values()))
        kind = self.random.choice(("cut", "reset", "stall", "lost"))
        # Of the connection that carries the data.
        connection = max(self.part.marks, key=lambda entry: entry[2][-1] if entry[1] == UP else 0)[0]
        offset = int(total * self.random.uniform(0.55, 0.9)) // (1 if self.driver.startswith("sftp") else 2)
        self._arm(Fault(kind, connection, UP, offset))
        self._judge(self._metered("drain", timeout=90))
        self._arrive()
        sent = self.proxy.passed[UP]
        # And the log-ins, which are larger with the key exchange of the system's ssh.
        allowed = total * 1.03 + _OVERLAP * _RATE + 100_000
        if sent > allowed:
            self._tell(f"SENT AGAIN: {sent} bytes went to the NAS for a run of {total}, {allowed:.0f} would do")

    def _delay(self):
        """A slow line is no fault."""
        result = self._metered("drain", timeout=80)
        self._judge(result, limits=False)
        if result.code != 0:
            self._tell(f"a line with delay: {result}")
        self.case.trial("delay")
        self._arrive()

    def _other_command(self):
        """The NAS breaks off while a published run is verified, cleaned up or brought back: nothing is removed that it did not prove then."""
        if (result := self.workstation.run("drain")).code != 0:
            self._tell(f"could not be prepared: {result}")
            return
        back = self.workstation.folder / "back"
        command = self.random.choice((("verify", self.run.argument), ("cleanup", self.run.argument), ("restore", self.run.argument, str(back))))
        fault = self.part.draw(self.random, self.random.choice((None, *OUTAGES)))
        # Shorter conversations than a drain's: nearer to their beginning.
        fault.offset = int(fault.offset * self.random.random())
        fault.connection = self.random.choice((1, fault.connection))
        self._arm(fault)
        result = self._metered(*command, timeout=60)
        self._judge(result, ends=(0, 1, 75))
        if result.code and not any(word in result.text for word in ("answer", "connect", "network", "moved a byte", "ended", "reset", "closed")):
            self._tell(f"{command[0]}: no word of the network: {result}")
        if command[0] == "restore":
            self._tell(*self.checker.restored(self.run, back, complete=result.code == 0))
        self.proxy.heal()
        time.sleep(0.6)
        # A restore that outlasted the fault is done: its folder is nobody's to fill again.
        if command[0] != "restore" or result.code != 0:
            result = self._metered(*command)
        if result.code != 0:
            self._tell(f"not recovered: {result}")
        states = ("cleaned",) if command[0] == "cleanup" else ("verified",)
        self._tell(*self.checker.after_recovery(self.run, *states))

    # What all have in common

    def _arm(self, fault):
        self.told = str(fault)
        self.workstation.log.append(f"the fault: {fault}")
        self.proxy.arm(fault)

    def _down(self, outage):
        self.told = f"{outage} from the start"
        self.workstation.log.append(f"the fault: {self.told}")
        self.where = "connect"
        self.proxy.down(outage)

    def _metered(self, *command, **options):
        before = len(self.proxy.links)
        result = metered(self.workstation, *command, **options)
        result.links = len(self.proxy.links) - before
        return result

    def _note(self, link):
        """The fault strikes: how far the run has come."""
        if link.phase not in ("session", "request"):
            self.where = link.where = link.phase
            return
        job = job_of(self.workstation, self.run) or {"state": "none"}
        names = self.road.place.names()
        published = self.road.place.is_there(self.run.remote)
        staged = any(b".nassync-" + job.get("id", "?").encode() in name for name in names)
        self.where = link.where = {"queued": "open", "running": "write" if staged else "open", "awaiting_verify": "publish" if published else "hash"}.get(
            job["state"], job["state"]
        )

    def _judge(self, result, ends=_ENDS, limits=True):
        """What holds of each run of the program under a fault."""
        what = f"{self.told}: {' '.join(result.arguments[:1])}"
        if result.hung or (result.late and result.arguments[0] != "serve"):
            self._tell(f"HUNG: {what} {result}")
        elif result.code not in ends:
            self._tell(f"FAILED by the network: {what}: {result}")
        elif result.code and not result.text.strip():
            self._tell(f"nothing was said: {what}")
        # A log-in is most of what a small run takes, with the system's ssh above all, and what was cut logs in again: a program that was lost with its
        # connection is looked for anew, one log-in a question. No more than three times as often as an undisturbed run: that would be a loop of its own.
        allowed = 2 * self.part.cpu * min(3, max(1, result.links / self.part.links)) + 0.5 + 0.05 * result.seconds
        if result.cpu > allowed:
            self._tell(f"BUSY: {what}: {result.cpu:.2f} s of the processor in {result.seconds:.1f} s, {allowed:.2f} would do, {result.links} connections")
        if result.peak > 150 * 1024:
            self._tell(f"MEMORY: {what}: {result.peak} KiB")
        if limits:
            self._noticed()
        job = job_of(self.workstation, self.run)
        if job and job["state"] == "failed":
            self._tell(f"FAILED by the network: {what}: {job['error_message']}")
        elif job and result.code == 75 and result.arguments[0] == "drain" and job["error_kind"] not in ("network", "timeout"):
            self._tell(f"not called a fault of the network: {what}: {job['error_kind']} {job['error_message']}")
        self._tell(*self.checker.at_any_time())
        fresh = [link for link in self.proxy.struck if not link.counted][:1]
        for link in self.proxy.struck:
            link.counted = True
        if fresh:
            self.case.trial(f"{self.where or fresh[0].phase}")
            self.case.labels[f"({fresh[0].kind})"] += 1
        elif self.proxy.is_down and result.arguments[0] in ("drain", "serve"):
            self.case.trial("connect")
            self.case.labels["(no connection)"] += 1

    def _noticed(self):
        """Each connection that stands still was given up in time."""
        standing = [link for link in self.proxy.struck if link.kind not in ("cut", "reset") and not link.judged]
        for _ in range(100):
            # The proxy sees an end a moment after it.
            if all(link.closed is not None for link in standing):
                break
            time.sleep(0.02)
        for link in standing:
            link.judged = True
            limit, since = self._limit(link)
            until = link.closed
            if until is None:
                self._tell(f"{self.told}: a connection that stands still ({link.kind}, {link.phase}) was never given up")
            elif until - since > limit * 1.1 + GRACE:
                self._tell(f"SLOW: {self.told}: connection {link.number} noticed after {until - since:.1f} s ({link.kind}, {link.phase}, {link.passed} bytes), {limit:.1f} s are configured")

    def _limit(self, link):
        """The configured deadline of a connection that stands still, and since when it counts."""
        if link.phase not in ("authentication", "session", "request"):
            # A handshake that lacks only a few bytes comes to its end in time at a byte a second, too; then the first answer has its own deadline.
            after = 0 if link.kind != "trickle" else PROGRESS if self.driver.startswith("sftp") else 2 * PROGRESS
            return CONNECT + after, link.opened
        if link.phase == "authentication":
            return max(CONNECT, PROGRESS), link.struck
        if not self.driver.startswith("sftp"):
            # HTTP has no signs of life: that an idle connection is dead can only be noticed once something is asked on it.
            since = link.asked if link.was_idle else link.struck
            if since is None:
                return math.inf, link.struck
            # A listing is waited for twice as long: a server gathers it before it says a word. So it does with a removal of many objects, and with the
            # assembly of an upload's parts, for which it has ten times as long.
            long_work = link.request.startswith(b"POST ") and (b"?delete" in link.request or b"uploadId=" in link.request)
            return (10 if long_work else 2) * PROGRESS, since
        # While a command runs on another connection nothing is asked on this one, or on that: only signs of life tell.
        idle = self.driver in ("sftp-shell", "sftp-openssh") or (self.driver == "sftp-only" and link.where not in ("write", "hash", "publish"))
        return (4 * KEEPALIVE if idle else PROGRESS), link.struck

    def _burnt_nothing(self):
        job = job_of(self.workstation, self.run)
        if job and job["attempts"]:
            self._tell(f"BURNT: {self.told}: {job['attempts']} attempts while nothing answers: {job['error_message']}")
        return job

    def _arrive(self, *states):
        """Without faults and without a person, at most a few drains."""
        for _ in range(8):
            result = self._metered("drain", timeout=60)
            if result.code != 75:
                break
            time.sleep(0.5)
        if result.code != 0:
            self._tell(f"not recovered: {result}")
        self._tell(*self.checker.after_recovery(self.run, *(states or ("verified",))))

    def _make_large(self):
        count = 1 if self.driver.startswith("sftp") else 8
        size = _LARGE if count == 1 else 1_000_000
        for number in range(count):
            self.run.put(f"large {number}.bin".encode(), self.random.randbytes(size))

    def _tell(self, *texts):
        self.case.violation(*texts)
