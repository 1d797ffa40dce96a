"""What the demo shows: headings, what a user would type, remarks. Colour on a terminal only, and not where NO_COLOR is set."""

import os
import shlex
import sys
import textwrap

_COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
_SHOWN_OPERANDS = 6


def _paint(code, text):
    return f"\x1b[{code}m{text}\x1b[0m" if _COLOUR else text


def _print(text=""):
    # At once: the programs that the demo runs write to the same place.
    print(text, flush=True)


def heading(number, title, remark):
    _print()
    _print(_paint("1;36", f"── {number}. {title} " + "─" * max(4, 74 - len(title) - len(str(number)))))
    for line in textwrap.wrap(remark, 96):
        _print(_paint("2", line))
    _print()


def command(*chain):
    """The command as a user would type it; of many operands the first few. Several are shown as one line joined by `&&`."""
    words = []
    for arguments in chain:
        words += ["&&"] if words else []
        words += [shlex.quote(argument) for argument in arguments]
    runs = [index for index, word in enumerate(words) if word.startswith("lab/")]
    if len(runs) > _SHOWN_OPERANDS:
        first, last = runs[_SHOWN_OPERANDS], runs[-1]
        words[first : last + 1] = [f"… ({last - first + 1} more)"]
    lines, line = [], "$"
    for word in words:
        if len(line) + len(word) > 108 and line.strip() != "$":
            lines.append(line + " \\")
            line = "   "
        line += " " + word
    _print(_paint("1", "\n".join([*lines, line])))


def outcome(text, good=True):
    _print(_paint("32" if good else "1;31", ("✓ " if good else "✗ ") + text))


def note(text):
    _print("  " + text)


def title(text):
    _print(_paint("1", text))


def size(count):
    """Bytes for people, in powers of ten as disks are sold."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
