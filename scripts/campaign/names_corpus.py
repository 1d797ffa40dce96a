"""Hostile names and trees, the fixed ones and as many as one likes drawn from a seed."""

import os
import stat
import unicodedata

# What a shell, a format string or a path would do with a name; `PWNED` stands for a word that nothing else has.
_INTERPRETED = (
    "$(touch PWNED)", "`touch PWNED`", "; touch PWNED;", "| touch PWNED", "& touch PWNED &", "&& touch PWNED", "|| touch PWNED", "\ntouch PWNED\n",
    "'; touch PWNED; '", "\"; touch PWNED; \"", "'\"$(touch PWNED)\"'", "$(touch${IFS}PWNED)", "${IFS}touch${IFS}PWNED", "> PWNED", ">>PWNED", "<(touch PWNED)",
    "a;touch PWNED", "{touch,PWNED}", "\\'; touch PWNED #", "-exec touch PWNED ;", "%(touch PWNED)", "#{`touch PWNED`}", "!touch PWNED", "~root", "~", "~+", "$HOME",
    "$PWD", "*", "?", "[a-z]", "{a,b}", "%s%s%s%n", "%d", "%00", "%2e%2e", "%2F", "%252e", "..%2f..%2fetc", "...", "....", ".. ", " ..", "..;", "\\..\\..\\x",
    "--", "-rf", "-", "--help", "-n", "--config=x", "-oProxyCommand=touch PWNED", "&lt;", "&amp;", "<x>", "]]>", "<!--", "<?xml?>", "\"quoted\"", "'", "\"", "''",
    "a'b\"c", "plus+plus", "a b", " leading", "trailing ", "trailing.", "a&b", "a=b", "a;b", "a?b", "a#b", "a,b", "a@b", "a:b", "c:\\x", "\\\\server\\share", "a|b",
    "a\\b", "\\", "\\n", "\\x41", "=1+1", "@SUM(1)", "+1", "null", "nil", "None", "true", "0", "[]", "{}", "{{ x }}", "{% x %}", "<sample_id>", "${x}", "#!", "~a", "a~",
    "a%20b", "a+b%2Bc", "é%C3%A9", "?versionId=1", "a?uploads", "a#fragment", "index.html", ".htaccess", ".ssh", "authorized_keys", ".profile",
)  # fmt: skip
_WINDOWS = ("CON", "con.txt", "PRN", "AUX.dat", "NUL", "nul.", "COM1", "com9.x", "LPT1", "lpt9.tar.gz", "CONIN$", "CLOCK$", "COM¹", "desktop.ini", "Thumbs.db")
_BIDI = (
    "\u202eexe.fcs", "a\u202ab\u202c", "\u202dx\u202c", "\u2066x\u2069", "\u2067x\u2069", "\u2068x", "\u200ex", "\u200fx", "\u061cx", "x\u200by", "x\u200cy", "x\u200dy",
    "\ufeffx", "x\u2060y", "x\u00ady", "\u180ex", "x\u2028y", "x\u2029y", "\U000e0041x", "x\ufe0f", "\u0301x", "a\u0300\u0301\u0302\u0303", "\u115fx", "\u3164", "\u00a0",
    "\u2003x", "x\u3000", "\ufffex", "\uffffx", "\U0010ffffx", "\ue000x", "\u0378x", "\ufffd", "\u202e" * 20, "İ", "ı", "ß", "ẞ", "ſ", "K", "Å", "ﬁ", "Ω", "𝔘",
)  # fmt: skip
_TERMINAL = (
    "\x1b[31mred", "\x1b[2J", "\x1b[H", "\x1b]0;title\x07", "\x1b]8;;http:evil\x1b\\x", "\x1b]52;c;eA==\x07", "\x1bP+q\x1b\\", "\x1b[6n", "\x1bc", "\x1b[1;1H\x1b[0K",
    "\x9b31mx", "\x9d0;x\x9c", "\x90x\x9c", "\rover", "x\b\b\b", "\x07bell", "\x0e\x0f", "\x7f", "x\x7fy", "\t", "tab\ttab", "line\nline", "\n", "cr\rcr", "crlf\r\n",
    "x\vy", "x\fy", "\x1b", "\x1b[?1049h", "\x1b[38;2;1;2;3mx", "nassync: 1 run verified\n", "done\r\x1b[K",
)  # fmt: skip
_OWN = (
    ".nassync", ".nassync-", ".nassync-probe-x", ".nassync-12345678-1234-1234-1234-123456789abc", ".nassync-none", ".nassync-replaced-x", "x.kept-by-nassync", ".nassync-tmp",
    "checksums.sha256", "receipt.json", "deletion.json", "creation.json", ".exlab-wizard.", ".Exlab-Wizard", ".EXLAB-WIZARD", ".exlab-wizard2", "x.tmp.dat", "queue.db",
    "queue.db-wal", ".nassync-commit", ".nassync.keep", ".uploads", ".part", "x.part", ".nassync-set-aside-1", "exlab-wizard", ".keep", "sync_status",
)  # fmt: skip
_LETTERS = "abcXYZ019 ._-+%&#;$'\"`\\()[]{}!~,=@^äßéñ日本語Ω\u202e\u200b\n\t\r\x1b\x07\x01\x7f\x85?*<>:|"


def fixed():
    """[(what, name)]: each a single file name."""
    found = [("interpreted", text.encode()) for text in _INTERPRETED]
    found += [("windows", text.encode()) for text in _WINDOWS]
    found += [("bidi", text.encode("utf-8", "surrogatepass")) for text in _BIDI]
    found += [("terminal", text.encode()) for text in _TERMINAL]
    found += [("own", text.encode()) for text in _OWN]
    found += [("control", bytes([65, number, 66])) for number in [*range(1, 32), 127]]
    found += [("not-utf8", bytes([65, number, 66])) for number in range(128, 256, 4)]
    found += [("not-utf8", text) for text in (
        b"\xff", b"\xc0\xaf", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80", b"\x80\x80", b"\xf8\x88\x80\x80\x80", b"caf\xe9", b"\xfe\xff", b"\xc3",
    )]  # fmt: skip
    for letter in ("x", "é", "日", "𝔘", "'", "%", "&", " x"):
        count = 255 // len(letter.encode())
        found.append(("long", (letter * count).encode()))
    found += [("long", b"x" * 200 + b".dat"), ("long", b"%" * 254 + b"a"), ("long", b"$(touch PWNED)" * 18)]
    # Each once: a name is there or not.
    return list(dict.fromkeys((what, name) for what, name in found if name and b"/" not in name and b"\0" not in name and name not in (b".", b"..")))


def drawn(random_):
    """(what, name): bytes or letters that nobody thought of."""
    if random_.random() < 0.4:
        name = bytes(random_.choice([number for number in range(1, 256) if number != 47]) for _ in range(random_.choice((1, 3, 8, 40, 255))))
        what = "bytes"
    else:
        name = "".join(random_.choice(_LETTERS) for _ in range(random_.choice((2, 5, 9, 30, 80)))).encode()[:255]
        what = "letters"
    return (what, name) if name not in (b".", b"..") else (what, name + b"x")


class Tree:
    """A run's content: {path: bytes}, {link: target}, folders, and other things that are made by `make`."""

    def __init__(self, what, files=None, links=None, folders=(), special=None):
        self.what, self.files, self.links, self.folders = what, files or {}, links or {}, folders
        # Called with the run's path once the rest is there.
        self.special = special

    def make(self, root):
        """Lays it out. Raises OSError where this file system cannot hold it."""
        root = os.fsencode(root)
        for folder in self.folders:
            os.makedirs(root + b"/" + folder)
        for name, content in self.files.items():
            os.makedirs(os.path.dirname(root + b"/" + name), exist_ok=True)
            with open(root + b"/" + name, "xb") as file:
                file.write(content)
        for name, target in self.links.items():
            os.makedirs(os.path.dirname(root + b"/" + name), exist_ok=True)
            os.symlink(target, root + b"/" + name)
        if self.special:
            self.special(root)


def of_name(what, name, random_):
    """A tree with a name in the place of a file, a folder, both, or a link."""
    place = random_.choice(("file", "file", "folder", "both"))
    files = {b"data.bin": b"data"}
    if place in ("file", "both"):
        files[name] = random_.randbytes(random_.randrange(1, 300))
    if place in ("folder", "both"):
        inner = name if place == "folder" else name[:250] + b"_d"
        files[inner + b"/in it.dat"] = random_.randbytes(50)
    return Tree(f"{what}-{place}", files)


def trees(random_):
    """Trees that are hostile as a whole."""
    some = random_.randbytes(100)
    deep = b"/".join(b"d%02d" % number for number in range(60))
    long_ = b"/".join(bytes([97 + number]) * 250 for number in range(12))
    nfc, nfd = (unicodedata.normalize(form, "Überé").encode() for form in ("NFC", "NFD"))
    return [
        Tree("deep-60", {deep + b"/x.dat": some}), Tree("long-path-3000", {long_ + b"/x.dat": some}), Tree("normalization", {nfc: some, nfd: b"2"}),
        Tree("nfd", {nfd: some}), Tree("case", {b"Data.bin": some, b"data.bin": b"2"}), Tree("case-folder", {b"Raw/x": some, b"raw/x": b"2"}),
        Tree("turkish", {"İ.bin".encode(): some, b"i.bin": b"2"}), Tree("sharp-s", {"straße".encode(): some, b"STRASSE": b"2"}),
        Tree("metadata-case", {b".EXLAB-WIZARD/creation.json": some, b"x": b"1"}), Tree("metadata-inside", {b"raw/.exlab-wizard/creation.json": some}),
        Tree("staging-inside", {b".nassync-0/x": some}), Tree("manifest-above", {b"checksums.sha256": b"0" * 64 + b"  data.bin\n", b"data.bin": some}),
        Tree("link-loop", {b"x": some}, {b"a": b"b", b"b": b"a"}), Tree("link-self", {b"x": some}, {b"s": b"s"}), Tree("link-up", {b"raw/x": some}, {b"raw/up": b".."}),
        Tree("link-dot", {b"x": some}, {b"d": b"."}), Tree("link-loop-folder", {b"a/x": some}, {b"a/again": b"../a"}),
        Tree("link-out", {b"x": some}, {b"out": b"../../../../../../../etc/passwd"}), Tree("link-absolute", {b"x": some}, {b"abs": b"/etc/passwd"}),
        Tree("link-out-folder", {b"x": some}, {b"etc": b"/etc"}), Tree("link-through", {b"x": some}, {b"raw": b"/tmp", b"y": b"raw/x"}),
        Tree("link-nowhere", {b"x": some}, {b"n": b"nothing"}), Tree("link-hostile", {b"x": some}, {b"h": b"\x1b]0;x\x07$(touch PWNED)"}),
        Tree("link-long", {b"x": some}, {b"l": b"x" * 4000}), Tree("link-not-utf8", {b"x": some}, {b"l": b"\xff\xfe"}),
        Tree("socket", {b"x": some}, special=_socket), Tree("fifo", {b"x": some}, special=lambda root: os.mkfifo(root + b"/pipe")),
        Tree("device", {b"x": some}, special=_device), Tree("block-device", {b"x": some}, special=lambda root: os.mknod(root + b"/disk", 0o60600, os.makedev(7, 0))),
        Tree("hard-links", {b"x": some}, special=lambda root: os.link(root + b"/x", root + b"/y")),
        Tree("hard-link-out", {b"x": some}, special=_hard_link_out), Tree("empty-folders", {b"x": some}, folders=[b"e/%d/f" % number for number in range(50)]),
        Tree("empty", {}), Tree("only-folders", {}, folders=[b"a/b/c"]), Tree("wide", {b"%04d.bin" % number: b"%d" % number for number in range(1500)}),
        Tree("setuid", {b"x": some}, special=lambda root: os.chmod(root + b"/x", 0o6777)), Tree("no-mode", {b"x": some}, special=lambda root: os.chmod(root + b"/x", 0)),
        Tree("folder-no-mode", {b"x": some, b"f/y": some}, special=lambda root: os.chmod(root + b"/f", 0)),
        Tree("sparse", {b"x": some}, special=lambda root: os.truncate(root + b"/x", 50_000_000)),
        Tree("future", {b"x": some}, special=lambda root: os.utime(root + b"/x", (2**33, 2**33))), Tree("past", {b"x": some}, special=lambda root: os.utime(root + b"/x", (-1, -1))),
        # Apache reads it at any depth, and for everything beside it; where letters of either case are one, in any.
        Tree("htaccess-deep", {b"x": some, b"raw/d/.htaccess": b"Require all denied\n"}), Tree("htaccess-folder", {b"x": some, b"raw/.HTACCESS/y": some}),
        # Its project gets the name: what lies beside that is everybody's.
        Tree("htaccess-project", {b"x": some}),
        Tree("nested-run", {b"Runs/Run_2026-01-01/x": some, b"x": b"1"}), Tree("dot-folders", {b".../x": some, b".. ./y": some}),
    ]  # fmt: skip


def _socket(root):
    os.mknod(root + b"/socket", stat.S_IFSOCK | 0o600)


def _device(root):
    os.mknod(root + b"/zero", 0o20666, os.makedev(1, 5))


def _hard_link_out(root):
    project = os.path.dirname(os.path.dirname(root))
    outside = os.path.dirname(project) + b"/outside-" + os.path.basename(project)
    with open(outside, "wb") as file:
        file.write(b"outside")
    os.link(outside, root + b"/inside")
