"""The demo's lab: where its files come from, and how they lie on the workstation's disk.

The files are what real cytometers wrote, as the PyPI package fcsparser 0.2.8 carries them for its own tests. Where PyPI cannot be
reached, small valid ones are generated instead. Records and folders follow the layout that ExLab-Wizard workstations use.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import uuid
import zipfile

import fcs

_REQUIREMENT = "fcsparser==0.2.8 --hash=sha256:833b02ceff18f34c9304681f5b6675039f5b39a31dfdd9640881f43223bcc2ab\n"
_LEAF = "Run_2026-04-17T14-32"

# Instrument, project, kind, and which of the cytometers' files the run holds (a part of the path inside the package).
RUNS = (
    ("CYTOMETER_01", "PROJ-0042", "experimental", ("Fortessa/", "HTS_BD_LSR-II/")),
    ("CYTOMETER_01", "PROJ-0057", "experimental", ("FACS_Diva/", "FACSCaliburHTS/")),
    ("CYTOMETER_02", "PROJ-0042", "experimental", ("MiltenyiBiotec/",)),
    ("CYTOMETER_02", "PROJ-0057", "experimental", ("GuavaMuse/", "cyflow_cube_8/")),
    ("CYTOMETER_02", "PROJ-0057", "test", ("Cytek_xP5/",)),
)
# The run whose notes still hold a placeholder from the template.
BLOCKED = ("CYTOMETER_02", "PROJ-0057", "experimental")
LABELS = {"CYTOMETER_01": "BD cytometers, bench 1", "CYTOMETER_02": "MACSQuant and others, bench 2"}
_PROJECTS = {
    "PROJ-0042": ("8c1f6a52-94f5-4c0e-9d0b-5f9f3c6a7e11", "T cell exhaustion, pilot"),
    "PROJ-0057": ("1e3b7d08-2c4a-4b67-8a57-c2d9d90f4a26", "Viability after thawing"),
}


def fetch():
    """The cytometers' files as {path inside the package: bytes} and a sentence on where they come from."""
    with tempfile.TemporaryDirectory() as folder:
        requirement = pathlib.Path(folder, "requirement.txt")
        requirement.write_text(_REQUIREMENT)
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
            "--only-binary=:all:", "--timeout", "15", "--retries", "1", "--require-hashes", "--dest", folder, "-r", str(requirement),
        ]  # fmt: skip
        reason = ""
        try:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
            if result.returncode != 0:
                lines = [line for line in result.stderr.strip().splitlines() if line.strip()]
                offline = any("connection" in line.lower() or "timed out" in line.lower() for line in lines)
                reason = "it does not answer" if offline else (lines[-1] if lines else f"pip exited with {result.returncode}")
        except subprocess.TimeoutExpired:
            reason = "no answer within two minutes"
        wheels = list(pathlib.Path(folder).glob("fcsparser-*.whl"))
        if not reason and wheels:
            return _from_wheel(wheels[0]), "recorded by real cytometers (from the PyPI package fcsparser 0.2.8)"
    return _generated(), f"GENERATED, because the recorded ones cannot be fetched from PyPI ({reason or 'pip brought no wheel'})"


def _from_wheel(wheel):
    files = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            _, marker, path = name.partition("/data/FlowCytometers/")
            if marker and any(part in path for run in RUNS for part in run[3]):
                files[path] = archive.read(name)
    if not files:
        raise RuntimeError("the wheel of fcsparser 0.2.8 holds no cytometer files")
    return files


def _generated():
    files = {}
    for number, part in enumerate(part for run in RUNS for part in run[3]):
        for well in ("A01", "A02", "B01"):
            cytometer = part.rstrip("/")
            content = fcs.generate(f"{cytometer} {well}", 4000 + 500 * number, cytometer, "demo", "17-APR-2026", f"Specimen_001_{well}")
            if not fcs.describe(content)["complete"]:
                raise RuntimeError("the generator wrote a file that is not complete")
            files[f"{part}Specimen_001_{well}.fcs"] = content
    return files


def lay_out(files, lab):
    """Writes the runs under the folder `lab`; returns their paths relative to its parent, in order, and the blocked one's."""
    runs, blocked = [], None
    for instrument, project, kind, parts in RUNS:
        folder, leaf = ("Runs", _LEAF) if kind == "experimental" else ("TestRuns", "TestRun_2026-04-16T09-05")
        run = pathlib.Path(lab, instrument, project, folder, leaf)
        run.mkdir(parents=True)
        names = []
        for path in sorted(files):
            if any(part in path for part in parts):
                # The vendor's folder is part of what the lab keeps, and two vendors may use one file name.
                target = run / "fcs" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(files[path])
                names.append(path)
        is_blocked = (instrument, project, kind) == BLOCKED
        _write_texts(run, instrument, project, names, "<sample_id>" if is_blocked else "PBMC-117, thawed 2026-04-16")
        _write_record(run, instrument, project, kind)
        (run / "acquisition_complete.flag").write_text("2026-04-17T15:10:44Z acquisition complete\n")
        _set_times(run)
        path = os.path.relpath(run, pathlib.Path(lab).parent)
        runs.append(path)
        if is_blocked:
            blocked = path
    return runs, blocked


def _write_texts(run, instrument, project, names, sample):
    (run / "notes.txt").write_text(
        f"Operator:   asmith\nInstrument: {instrument} ({LABELS[instrument]})\nProject:    {project}\nSample:     {sample}\n"
        "Remark:     lasers warm for 30 min, rainbow beads within limits\n"
    )
    wells = "".join(f"{chr(65 + index // 12)}{index % 12 + 1:02d},{name}\n" for index, name in enumerate(names))
    (run / "plate_layout.csv").write_text("well,file\n" + wells)


def _write_record(run, instrument, project, kind):
    uid, name = _PROJECTS[project]
    created = "2026-04-17T14:32:00Z" if kind == "experimental" else "2026-04-16T09:05:00Z"
    record = {
        "schema_version": "1.8",
        "created_at": created,
        "created_by": "asmith",
        "level": "run",
        "run_kind": kind,
        "lims_project": {
            "uid": uid, "short_id": project, "name_at_creation": name, "source": "live", "cache_freshness_at_use": None,
        },
        "template": {
            "name": "cytometry_run", "version": "1.4", "source_path": "templates/cytometry_run", "run_scope": "both",
        },
        "variables": {"project_name": name, "operator": "asmith", "run_date": created},
        "plugins_applied": [],
        "paths": {
            "local": f"/data/lab/{instrument}/{project}/{run.parent.name}/{run.name}",
            "nas": f"//nas01/lab/{instrument}/{project}/{run.parent.name}/{run.name}",
        },
        "sync_status": "pending",
        "validation_overrides": [],
    }  # fmt: skip
    fields = {
        "schema_version": "1.1",
        "generated_at": created,
        "core_fields": {"label": name, "operator": "asmith", "objective": "Surface markers and viability of thawed cells."},
        "template_fields": {"panel": "6 colours"},
        "config_fields": {},
        "custom_fields": [],
        "system_fields": {
            "created": created, "created_by": "asmith", "equipment": {"id": instrument, "label": LABELS[instrument]},
            "template": {"name": "cytometry_run", "version": "1.4"}, "project": project, "run": run.name, "run_kind": kind,
        },
    }  # fmt: skip
    folder = run / ".exlab-wizard"
    folder.mkdir()
    for file, value in (("creation.json", record), ("readme_fields.json", fields)):
        (folder / file).write_text(json.dumps(value, indent=2) + "\n")


def _set_times(run):
    """Acquisition ended a while ago, each file a moment after the one before."""
    moment = 1776438644 - 60 * 60
    for folder, _, names in sorted(os.walk(run)):
        for name in sorted(names):
            moment += 37
            os.utime(os.path.join(folder, name), (moment, moment))


class NotALab(ValueError):
    """The tree given as RUNS is not laid out in a way that the demo knows; the message explains."""


def find_runs(tree):
    """The runs below `<tree>/<EQUIPMENT>/<project>/Runs|TestRuns/`, relative to the tree and in order. Raises NotALab where there is none."""
    found, close = [], []
    for pattern in ("*/*/Runs/Run_*", "*/*/TestRuns/TestRun_*"):
        for path in sorted(pathlib.Path(tree).glob(pattern)):
            if not path.is_dir() or path.is_symlink():
                continue
            relative = path.relative_to(tree)
            if re.fullmatch(r"[A-Z][A-Z0-9_]{0,31}", relative.parts[0]):
                found.append(str(relative))
            else:
                close.append(str(relative))
    if found:
        return sorted(found, key=os.fsencode)
    if close:
        raise NotALab(
            f"the instrument's folder of {close[0]} is not a valid name: capital letters, digits and _ , a letter first, at most 32"
        )
    raise NotALab(
        "no run was found. Expected below it: <EQUIPMENT>/<project>/Runs/Run_<DATE> or <EQUIPMENT>/<project>/TestRuns/TestRun_<DATE>, "
        "for instance CYTOMETER_01/PROJ-0042/Runs/Run_2026-04-17T14-32"
    )
