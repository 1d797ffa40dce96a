"""A private object store with an S3 interface: OpenStack Swift on free loopback ports, with a bucket in it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

from nas import CannotStart, PrivateServer

_SERVERS = pathlib.Path(__file__).resolve().parents[1] / "servers"
sys.path.insert(0, str(_SERVERS))
import s3  # noqa: E402


class PrivateStore(PrivateServer):
    """A running store. Paths are below the bucket's prefix."""

    word = "store"
    sending = "A store cannot rename, so each run goes to its place object by object, and is a run only once its manifest is there, which comes last."
    unseen = "Its length stays the same."
    place = "The manifest lies beside the data in the format of sha256sum: what any S3 client has fetched can be checked, today or in ten years."

    bucket, prefix = "lab", "runs"

    def __init__(self, base):
        super().__init__()
        self.base = pathlib.Path(base)
        self.keys = self.base / "keys"
        self.log = self.base / "store.log"
        self._state = self.base / "store" / "store.json"
        self._store = {}

    @property
    def address(self):
        return f"{self._store['endpoint']}/{self.bucket}/{self.prefix}"

    @property
    def transport(self):
        """The section of an instrument's profile."""
        return {
            "type": "s3", "endpoint": self._store["endpoint"], "bucket": self.bucket, "prefix": self.prefix,
            "region": self._store["region"], "addressing": "path", "access_key_id": self._store["access_key_id"],
            "secret_access_key": f"file:{self.keys / 'secret'}", "insecure": True, "connections": 2,
        }  # fmt: skip

    def start(self):
        """Starts the store, waits until it answers, makes the bucket. Raises CannotStart."""
        self.keys.mkdir(mode=0o700, parents=True)
        for _ in range(3):
            shutil.rmtree(self._state.parent, ignore_errors=True)
            with open(self.log, "ab") as log:
                # Our end of its standard input stays open as long as we live.
                self.launch(
                    [str(_SERVERS / "object-store.py"), "swift", str(self._state.parent), "--while-stdin-open"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                )  # fmt: skip
            if self._process.stdout.readline() == b"READY\n":
                break
            # Another program may have taken one of its ports.
            self.stop()
        else:
            raise CannotStart((self.log.read_text(errors="replace").strip().splitlines() or ["the store did not start"])[-1])
        self._store = json.loads(self._state.read_text())
        descriptor = os.open(self.keys / "secret", os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._store["secret_access_key"] + "\n")
        self._bucket().make()

    def _bucket(self):
        return s3.Bucket(self._state, self.bucket)

    def _key(self, name):
        return f"{self.prefix}/{name}".encode("utf-8", "surrogateescape")

    def files(self):
        """{path: bytes} of all objects there; the empty ones that stand for folders are none."""
        start = len(self._key(""))
        return {
            key[start:].decode("utf-8", "surrogateescape"): size
            for key, size in self._bucket().list(self._key("")) if not key.endswith(b"/")
        }  # fmt: skip

    def flip(self, name):
        """Inverts the lowest bit of the byte in the middle of an object; a second time restores it. Says what it did."""
        size = self.files()[name]
        self._bucket().flip(self._key(name))
        return (
            f"byte {size // 2} of {name} is now wrong: somebody else has stored it so. (A bit that rots on its disk the store notices "
            "once it is read, and withdraws the object.)"
        )

    def look(self):
        """A folder with what it holds, fetched past nassync, for the tools of any machine."""
        folder = self.base / "fetched"
        shutil.rmtree(folder, ignore_errors=True)
        bucket = self._bucket()
        for name in self.files():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bucket.get(self._key(name)))
        return folder
