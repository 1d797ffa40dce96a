"""The queue file's seals, from their description in Specs/queue-file.md: whoever writes jobs with another program needs them."""

import hashlib
import struct


def seal(*values):
    """`nassync_seal(…)` of a row's values."""
    text = b""
    for value in values:
        if value is None:
            text += b"\5"
        elif isinstance(value, int):
            text += b"\1" + struct.pack("<q", value)
        elif isinstance(value, float):
            text += b"\2" + struct.pack("<d", value)
        else:
            content = value.encode() if isinstance(value, str) else value
            text += (b"\3" if isinstance(value, str) else b"\4") + struct.pack("<q", len(content)) + content
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)
