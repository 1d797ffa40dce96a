#!/usr/bin/env python3
"""Stands for `sha256sum`, `shasum` and `openssl` on the NAS's search path, where `hash.json` names a lie to tell.

    lying_hash.py FOLDER PROGRAM ARGUMENT…
"""

import hashlib
import json
import os
import pathlib
import select
import sys
import time


def lines(names, zero, openssl, lie):
    end = b"\0" if zero else b"\n"
    separator = b" *" if openssl else b"  "
    digests = []
    for name in names:
        with open(name, "rb") as file:
            digests.append(hashlib.sha256(file.read()).hexdigest().encode())
    if lie == "constant digest":
        digests = [b"ab" * 32] * len(digests)
    elif lie == "another file's digest":
        digests = digests[1:] + digests[:1] if len(set(digests)) > 1 else [b"cd" * 32] * len(digests)
    elif lie == "right digest, another name":
        names = names[1:] + names[:1] if len(names) > 1 else [name + b"x" for name in names]
    elif lie == "short digest":
        digests = [digest[:40] for digest in digests]
    made = [digest + separator + name + end for digest, name in zip(digests, names)]
    if lie == "one line too few":
        made = made[:-1]
    elif lie == "one line too many":
        made += made[-1:]
    elif lie == "half a line":
        made[-1] = made[-1][: len(made[-1]) // 2]
    elif lie == "garbage":
        made = [b"\x1b[2J\xff\xfe" + os.urandom(200) + b"\n"] * 3
    elif lie == "nothing":
        made = []
    return b"".join(made)


def main():
    folder, program = pathlib.Path(sys.argv[1]), sys.argv[2]
    arguments = [os.fsencode(word) for word in sys.argv[3:]]
    names = [word for word in arguments if not word.startswith(b"-") and word not in (b"dgst", b"256")]
    lie = json.loads((folder / "bin" / "hash.json").read_text())["name"]
    with open(folder / "told", "a") as file:
        file.write(f"{time.time():.3f} {program} {lie}\n")
    if lie == "hangs":
        poller = select.poll()
        poller.register(1, 0)
        for _ in range(600):
            if poller.poll(200):
                return 1
    while lie == "endless output":
        sys.stdout.buffer.write(b"0" * 100_000)
    try:
        sys.stdout.buffer.write(lines(names, b"-z" in arguments, program == "openssl", lie))
    except OSError as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return 1
    return 1 if lie == "right, and exit 1" else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        sys.exit(1)
