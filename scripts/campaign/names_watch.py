"""What lies outside of the runs and of the NAS's root, looked at before and after: nothing may appear, vanish or change there."""

import os
import pathlib
import stat


class Watch:
    """Remembers how it was."""

    def __init__(self, side, workstation):
        self._server, self._workstation = side.server, workstation
        self._before = self._look()

    def violations(self, mark):
        """`mark`: what a name that was taken for a command would have made."""
        now, found = self._look(), []
        found += [f"ESCAPED: {path!r} appeared" for path in sorted(now.keys() - self._before.keys(), key=os.fsencode)]
        found += [f"ESCAPED: {path!r} is gone" for path in sorted(self._before.keys() - now.keys(), key=os.fsencode)]
        found += [f"ESCAPED: {path!r} was changed" for path in sorted(now.keys() & self._before.keys(), key=os.fsencode) if now[path] != self._before[path]]
        places = {os.getcwd(), os.path.expanduser("~"), "/", "/tmp", str(self._workstation.folder), str(self._server.base), str(self._workstation.state)}
        for place in places:
            found += [f"INTERPRETED: {name} in {place}" for name in os.listdir(place) if mark in name and not name.startswith(("$", "`", ";"))]
        return found

    def _look(self):
        """{path: what it is}"""
        found = {}
        folder = self._workstation.folder
        for path in folder.iterdir():
            if path.name not in ("state", "lab", "queue-copy") and not path.name.startswith("back-"):
                found[str(path)] = _content(path)
        # Next to the runs: projects, and what lies in none of them.
        for path in (folder / "lab").glob("*/*"):
            found[os.fsencode(path)] = _content(path)
        base = pathlib.Path(self._server.base)
        shared = getattr(self._server, "folder", None)
        for parent, folders, files in os.walk(os.fsencode(base)):
            if shared is not None and parent == os.fsencode(shared):
                # The places of all cases, which come and go.
                found.update({os.path.join(parent, name): "stranger" for name in folders + files if not _is_place(name)})
                folders.clear()
                continue
            if os.path.basename(parent) in (b"logs", b"run", b"store", b"locks", b"tmp"):
                folders.clear()
                continue
            found.update({os.path.join(parent, name): "there" for name in folders + files if not name.endswith((b".log", b".pid", b".lock"))})
        return found


def _is_place(name):
    part, _, number = name.partition(b"-")
    return part.isalpha() and (number.isdigit() or b"prepare" in number)


def _content(path):
    state = os.lstat(path)
    if stat.S_ISREG(state.st_mode):
        return path.read_bytes()
    return stat.S_IFMT(state.st_mode)
