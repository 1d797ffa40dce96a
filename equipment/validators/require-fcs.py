#!/usr/bin/env python3
"""A validator for NASSync: every .fcs file is a Flow Cytometry Standard file, and all of it is there.

NASSync gives a run as JSON on standard input and takes findings as JSON from standard output (Specs/gate.md, Specs/schemas). Name this
program in nassync.yaml:

    gate:
      validators:
        - command: [./validators/require-fcs.py]
          timeout: 60s

What it looks at: the file begins with "FCS" and a version, and the segments that its header and its TEXT segment name lie inside the file.
An export that was cut short by a full disk or a crashed acquisition has a right name and a plausible size; this is where it shows.
Needs Python 3.9 and nothing else.
"""

import base64
import json
import os
import re
import sys

HEADER_BYTES = 58


def main():
    # All of standard input has to be read: NASSync takes an answer to half a run for none.
    run = json.load(sys.stdin)
    findings = []
    for entry in run["entries"]:
        # A name that is no text comes with its bytes.
        name = base64.b64decode(entry["path_bytes"]) if "path_bytes" in entry else os.fsencode(entry["path"])
        if entry["kind"] != "file" or not name.lower().endswith(b".fcs"):
            continue
        problem = fault(os.path.join(os.fsencode(run["run_path"]), name), entry["size"])
        if problem:
            findings.append(
                {
                    "problem_class": "incomplete_fcs",
                    "tier": "hard",
                    "path": entry["path"],
                    "detail": problem,
                    "hint": "Export the file again from the acquisition software, or move it out of the run.",
                }
            )
    json.dump({"schema_version": "1.0", "findings": findings}, sys.stdout)


def fault(path, size):
    """What is wrong with a file, as a sentence; None where nothing is."""
    try:
        # Neither through a link nor waiting at a pipe, should the entry have become one since it was listed.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    with open(descriptor, "rb") as file:
        header = file.read(HEADER_BYTES)
        if not re.match(rb"FCS[0-9]\.[0-9]", header):
            return "it does not begin with FCS and a version, so it is no FCS file"
        if len(header) < HEADER_BYTES:
            return f"it ends inside its header, after {len(header)} bytes"
        try:
            text_begin, text_end, data_begin, data_end = (int(header[at : at + 8]) for at in (10, 18, 26, 34))
        except ValueError:
            return "the offsets in its header are no numbers"
        if not HEADER_BYTES <= text_begin <= text_end:
            return "its header names no TEXT segment"
        if text_end >= size:
            return f"its TEXT segment ends at byte {text_end}, and the file has {size} bytes"
        file.seek(text_begin)
        keywords = parsed(file.read(text_end - text_begin + 1))
        # Offsets beyond eight columns are 0 in the header, and TEXT has them.
        data_begin = data_begin or number(keywords.get(b"$BEGINDATA"))
        data_end = data_end or number(keywords.get(b"$ENDDATA"))
        if data_begin and data_end >= size:
            return f"its DATA segment ends at byte {data_end}, and the file has {size} bytes: it was cut short"
        if not data_begin and number(keywords.get(b"$TOT")):
            return "it names events and no DATA segment"
    return None


def parsed(text):
    """The keywords of a TEXT segment, in capitals. A doubled delimiter stands for itself."""
    delimiter = re.escape(text[:1])
    parts = re.split(rb"(?<!" + delimiter + rb")" + delimiter + rb"(?!" + delimiter + rb")", text[1:])
    return {key.strip().upper(): value for key, value in zip(parts[::2], parts[1::2])}


def number(text):
    """A number of the TEXT segment; 0 where there is none."""
    try:
        return int(text or 0)
    except ValueError:
        return 0


if __name__ == "__main__":
    main()
