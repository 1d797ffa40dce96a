"""Flow Cytometry Standard files: just enough to write valid small ones and to read back what any file says of itself.

The layout is that of FCS 3.0 (ISAC): a HEADER with the byte offsets of the other segments in ASCII columns of eight, a TEXT segment of
delimited keyword and value pairs, and a DATA segment, here list mode in 32-bit little-endian floats.
"""

import math
import random
import struct

_DELIMITER = "|"
_TEXT_START = 256


class NotFCS(ValueError):
    """The bytes are not a flow cytometry file; the message says where."""


def generate(seed, events, cytometer, operator, date, sample):
    """The bytes of a valid FCS 3.0 file: two populations of `events` cells in six channels, the same for the same seed."""
    channels = [("FSC-A", 262144), ("SSC-A", 262144), ("FITC-A", 262144), ("PE-A", 262144), ("APC-A", 262144), ("Time", 262144)]
    noise = random.Random(seed)
    values = bytearray()
    for event in range(events):
        bright = noise.random() < 0.35
        row = [
            noise.gauss(90000 if bright else 52000, 9000),
            noise.gauss(60000 if bright else 24000, 6000),
            math.exp(noise.gauss(9.5 if bright else 6.0, 0.5)),
            math.exp(noise.gauss(8.0, 0.7)),
            math.exp(noise.gauss(5.5, 0.6)),
            event * 0.25,
        ]
        values += struct.pack("<6f", *(min(max(value, 0.0), 262143.0) for value in row))

    keywords = {
        "$BEGINANALYSIS": "0", "$ENDANALYSIS": "0", "$BEGINSTEXT": "0", "$ENDSTEXT": "0", "$NEXTDATA": "0",
        "$BYTEORD": "1,2,3,4", "$DATATYPE": "F", "$MODE": "L", "$PAR": str(len(channels)), "$TOT": str(events),
        "$CYT": cytometer, "$OP": operator, "$DATE": date, "$SMNO": sample, "$FIL": sample + ".fcs",
    }  # fmt: skip
    for number, (name, maximum) in enumerate(channels, start=1):
        keywords.update({f"$P{number}N": name, f"$P{number}B": "32", f"$P{number}E": "0,0", f"$P{number}R": str(maximum)})

    # The offsets of DATA stand in TEXT and change its length; with a fixed width they do not.
    def text(begin, end):
        pairs = {"$BEGINDATA": f"{begin:012d}", "$ENDDATA": f"{end:012d}", **keywords}
        return _DELIMITER + "".join(
            f"{key}{_DELIMITER}{value.replace(_DELIMITER, _DELIMITER * 2)}{_DELIMITER}" for key, value in pairs.items()
        )

    begin = _TEXT_START + len(text(0, 0).encode())
    end = begin + len(values) - 1
    body = text(begin, end).encode()
    # Offsets that do not fit eight columns are 0 in the header, and the TEXT segment has them.
    fits = end <= 99999999
    header = "FCS3.0    " + "".join(
        f"{offset:8d}" for offset in (_TEXT_START, begin - 1, begin if fits else 0, end if fits else 0, 0, 0)
    )
    # The CRC field that may follow the last segment; eight zeros say that there is none.
    return header.encode().ljust(_TEXT_START, b" ") + body + bytes(values) + b"00000000"


def describe(content):
    """What the file says of itself: version, keywords, parameters, events, and whether its DATA segment is complete.

    Raises NotFCS where it is not one.
    """
    if len(content) < 58 or content[:3] != b"FCS":
        raise NotFCS("no FCS header")

    def offset(column):
        field = content[10 + 8 * column : 18 + 8 * column].strip()
        if not field:
            return 0
        if not field.isdigit():
            raise NotFCS(f"offset {column} in the header is {field!r}")
        return int(field)

    begin, end = offset(0), offset(1)
    if not (58 <= begin < end < len(content)):
        raise NotFCS(f"TEXT from {begin} to {end} of {len(content)} bytes")
    text = content[begin : end + 1].decode("latin-1").rstrip("\x00 \r\n")
    delimiter, rest = text[0], text[1:]
    parts, hidden = [], "\x00\x00"
    for part in rest.replace(delimiter * 2, hidden).split(delimiter):
        parts.append(part.replace(hidden, delimiter))
    keywords = {key.strip().upper(): value.strip() for key, value in zip(parts[0::2], parts[1::2])}
    data_begin = offset(2) or int(keywords.get("$BEGINDATA", "0") or 0)
    data_end = offset(3) or int(keywords.get("$ENDDATA", "0") or 0)
    parameters = int(keywords.get("$PAR", "0") or 0)
    events = int(keywords.get("$TOT", "0") or 0)
    widths = [int(keywords.get(f"$P{number}B", "0") or 0) for number in range(1, parameters + 1)]
    return {
        "version": content[:6].decode("latin-1"),
        "keywords": keywords,
        "cytometer": keywords.get("$CYT") or keywords.get("CYTOMETER") or "",
        "parameters": parameters,
        "events": events,
        "complete": 0 < data_begin <= data_end < len(content) and (data_end - data_begin + 1) * 8 >= sum(widths) * events > 0,
    }
