"""The demo's workstation: the folder with the configuration, and `nassync` run in it as a user would."""

import json
import os
import pathlib
import re
import subprocess

import screen

_PROFILE = """id: {id}
label: {label}
local_root: {local_root}
exclude: ["*.tmp", Thumbs.db, .DS_Store]
"""
_SERVICE = """# Written by the demo; `nassync init` writes one with every key explained.
state_dir: ./state
equipment_dir: ./equipment
metadata_dir: .exlab-wizard
workers: 2
"""


class Failed(RuntimeError):
    """Something was not as the demo promises."""


class Workstation:
    """A folder with `nassync.yaml`, `equipment/`, `state/` and `lab/`."""

    def __init__(self, folder, program, timeout):
        self.folder = pathlib.Path(folder)
        self.lab = self.folder / "lab"
        self._timeout = timeout
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("NASSYNC_") and key != "SSH_AUTH_SOCK"},
            "PATH": f"{pathlib.Path(program).resolve().parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        }

    def configure(self, instruments, nas, examples, upload_mbps):
        """Writes the configuration: a profile an instrument, after the repository's example where there is one."""
        (self.folder / "nassync.yaml").write_text(_SERVICE)
        equipment = self.folder / "equipment"
        equipment.mkdir()
        for identifier, label in instruments.items():
            values = {key: _scalar(value) for key, value in {"id": identifier, "label": label, "local_root": str(self.lab)}.items()}
            example = next((path for path in (examples / f"{identifier}.yaml", examples / "CYTOMETER_01.yaml") if path.exists()), None)
            profile = _adapt(example.read_text(), values) if example else _PROFILE.format(**values)
            # The demo's own NAS takes the place of the example's.
            profile += "transport:\n" + "".join(f"  {key}: {_scalar(value)}\n" for key, value in nas.transport.items())
            if upload_mbps:
                profile += f"bandwidth:\n  upload_mbps: {upload_mbps}\n"
            (equipment / f"{identifier}.yaml").write_text(profile)

    def run(self, *arguments, expect=(0,)):
        """Shows a command, runs it with its output on the screen, and holds it to the exit codes it may have. Returns the code."""
        screen.command(["nassync", *arguments])
        code = self._start(arguments).returncode
        self._check(arguments, code, expect)
        return code

    def ask(self, *arguments, expect=(0,)):
        """Runs a command with `--json`, unseen. Returns the exit code and the document."""
        result = self._start(["--json", *arguments], capture_output=True, text=True)
        self._check(["--json", *arguments], result.returncode, expect, result.stderr)
        try:
            return result.returncode, json.loads(result.stdout)
        except json.JSONDecodeError as error:
            raise Failed(f"nassync --json {' '.join(arguments)} did not print one JSON document: {error}") from error

    def _start(self, arguments, **options):
        try:
            return subprocess.run(
                ["nassync", *arguments], cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL, timeout=self._timeout, **options
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"nassync {' '.join(arguments)} did not end within {self._timeout} s") from error

    @staticmethod
    def _check(arguments, code, expect, stderr=""):
        if code not in expect:
            wanted = " or ".join(map(str, expect))
            raise Failed(f"nassync {' '.join(arguments)} ended with exit code {code}, expected {wanted}\n{stderr}".rstrip())


def hard_findings(document):
    """Classes of the hard findings anywhere in what `gate --json` prints, in order, each once."""
    found = []
    if isinstance(document, dict):
        if document.get("tier") == "hard" and "problem_class" in document:
            found.append(document["problem_class"])
        for value in document.values():
            found += hard_findings(value)
    elif isinstance(document, list):
        for value in document:
            found += hard_findings(value)
    return list(dict.fromkeys(found))


def _scalar(text):
    """A plain YAML scalar where that is safe, else a double-quoted one (which JSON's strings are)."""
    if not isinstance(text, str):
        return json.dumps(text)
    return text if re.fullmatch(r"[A-Za-z0-9/_][A-Za-z0-9/_.-]*", text) else json.dumps(text)


def _adapt(example, values):
    """The example profile under another id, label and root, without its transport and bandwidth sections."""
    lines, skipping = [], False
    for line in example.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            key = line.partition(":")[0]
            skipping = key in ("transport", "bandwidth")
            if key in ("id", "label", "local_root"):
                line = f"{key}: {values[key]}"
        if not skipping:
            lines.append(line)
    return "\n".join(lines).rstrip() + "\n\n"
