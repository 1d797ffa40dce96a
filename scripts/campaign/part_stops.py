"""Part 14: told to stop, politely, at any moment: SIGTERM and SIGINT, once or twice. What is left is looked at as after a death."""

import os
import signal

from part_kill import STREAM_SECONDS, KillPart, Life

# How often the program is slowed down at each packet that it sends, so that a moment falls between any two of them as likely as not.
_SLOWED, _DELAY = 0.7, 0.012


class StopsPart(KillPart):
    """The same lives as of those who are killed."""

    name = "stops"

    def __init__(self, campaign, side):
        super().__init__(campaign, side)
        self.life = _Life


class _Life(Life):
    def killed(self, *command, again=False):
        """Runs a command and stops it; returns whether it was stopped before its end."""
        profile = self.part.profiles[command[0] if command[0] in self.part.profiles else "drain"]
        before, once, seconds = (), None, profile.seconds * 0.8
        if self.aims_at_stream(command):
            once, seconds = self.workstation.place.unpacks, STREAM_SECONDS
        elif self.random.random() < _SLOWED:
            # As a child of what it watches, so that the signal reaches the program and its exit code is seen.
            delay = f"inject=sendto:delay_enter={int(_DELAY * 1e6)}"
            before = ("strace", "-D", "-f", "-qq", "-e", "signal=none", "-e", "trace=sendto", "-o", os.devnull, "-e", delay)
            seconds += profile.calls.get("sendto", 0) * _DELAY
        after = 0.03 + seconds * self.random.random() ** 1.5
        signals = [(after, self.random.choice((signal.SIGTERM, signal.SIGINT)))]
        if self.random.random() < 0.15:
            signals.append((after + self.random.uniform(0, 0.3), signals[0][1]))
        result = self.workstation.run(*command, before=before, signals=signals, timeout=after + 40, once=once)
        if result.hung:
            self.case.violation(f"HUNG: told to stop, it did not: {result}")
        self.violation(self.checker.at_any_time())
        # One that is about to end may end as if nobody had said anything; then it is no trial.
        by_signal = result.code in [code for _, number in signals for code in (-number, 128 + number)]
        stopped = by_signal or "stopping" in result.text
        if stopped:
            self.case.trial(f"{'again in ' if again else ''}{self.where(command[0])}{self.extra}")
            if once:
                self.case.labels[f"with {self.unpacked()} files of a stream"] += 1
            self.case.labels["twice" if len(signals) > 1 else "once"] += 1
        return stopped and not self.case.violations

    def audit(self):
        """The service verifies again what is published, and is told to stop in that."""
        result = self.workstation.run("serve", signals=[(self.random.uniform(0.3, 2.2), signal.SIGTERM)], timeout=40)
        if result.code != 0:
            self.case.violation(f"a service that was told to stop: {result}")
        self.case.trial("audit")
        return self.after_audit()

    def repair(self):
        """What a repair leaves when it ends in mid-way is looked at where it is killed."""
        return True
