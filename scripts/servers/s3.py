#!/usr/bin/env python3
"""Looks into an S3 bucket past the program under test: a signer and a client of its own, on Python's standard library alone.

    s3.py STATE BUCKET make              makes the bucket
    s3.py STATE BUCKET get KEY           the object's bytes, on standard output
    s3.py STATE BUCKET put KEY           stores standard input under the key
    s3.py STATE BUCKET head KEY          its size and headers as JSON
    s3.py STATE BUCKET list [PREFIX]     a line `SIZE KEY` for each object, in order
    s3.py STATE BUCKET sums [PREFIX]     a line `SHA256 KEY` for each object, of its bytes as they come, in order
    s3.py STATE BUCKET delete KEY
    s3.py STATE BUCKET flip KEY          inverts the lowest bit of the middle byte by storing the changed bytes with the same metadata
    s3.py STATE BUCKET uploads           a line `KEY ID` for each multipart upload that was not ended
    s3.py STATE BUCKET fill PREFIX COUNT  makes COUNT empty objects, PREFIX0, PREFIX1, …
    s3.py STATE BUCKET empty             removes all objects and unended uploads, and the bucket

STATE is the file that `object-store.py` writes. Keys are percent-encoded, in arguments and in what is printed: they are bytes.
Exit: 0 done, 1 refused (the store's answer on standard error), 2 usage, 4 no such key or bucket.
"""

import concurrent.futures
import datetime
import hashlib
import hmac
import http.client
import json
import os
import sys
import threading
import urllib.parse
import xml.etree.ElementTree

_EMPTY = hashlib.sha256(b"").hexdigest()


class Refused(RuntimeError):
    """The store said no; `status` is the HTTP status."""

    def __init__(self, status, text):
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


class Bucket:
    """One bucket of a store, over one connection that is kept. Keys are bytes."""

    def __init__(self, state, name):
        with open(state, encoding="utf-8") as file:
            store = json.load(file)
        address = urllib.parse.urlsplit(store["endpoint"])
        self.name = name
        self._host = address.netloc
        self._region, self._access, self._secret = store["region"], store["access_key_id"], store["secret_access_key"]
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        self._lock = threading.Lock()

    def make(self):
        self._ask("PUT")

    def get(self, key):
        return self._ask("GET", key)[1]

    def put(self, key, content, headers=None):
        self._ask("PUT", key, body=content, headers=headers)

    def head(self, key):
        """The response's headers, in lower case."""
        return self._ask("HEAD", key)[0]

    def delete(self, key):
        self._ask("DELETE", key)

    def list(self, prefix=b""):
        """(key, size) of every object, in the store's order."""
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        while True:
            page = self._tree("GET", query)
            for item in page.iter("Contents"):
                yield urllib.parse.unquote_to_bytes(item.findtext("Key").replace("+", " ")), int(item.findtext("Size"))
            if page.findtext("IsTruncated") != "true":
                return
            query["continuation-token"] = page.findtext("NextContinuationToken")

    def uploads(self):
        """(key, upload id) of every multipart upload that was neither completed nor aborted."""
        page = self._tree("GET", {"uploads": "", "encoding-type": "url"})
        return [
            (urllib.parse.unquote_to_bytes(item.findtext("Key").replace("+", " ")), item.findtext("UploadId")) for item in page.iter("Upload")
        ]

    def flip(self, key):
        """Inverts the lowest bit of the byte in the middle; a second time restores it."""
        kept = {name: value for name, value in self.head(key).items() if name.startswith("x-amz-meta-") or name == "content-type"}
        content = bytearray(self.get(key))
        content[len(content) // 2] ^= 1
        self.put(key, bytes(content), kept)

    def empty(self):
        """Removes everything, and the bucket."""
        for key, upload in self.uploads():
            self._ask("DELETE", key, {"uploadId": upload})
        for key in [key for key, _ in self.list()]:
            self.delete(key)
        self._ask("DELETE")

    def _tree(self, method, query):
        tree = xml.etree.ElementTree.fromstring(self._ask(method, query=query)[1])
        for element in tree.iter():
            element.tag = element.tag.rpartition("}")[2]
        return tree

    def _ask(self, method, key=None, query=None, body=b"", headers=None):
        """Signs by hand (AWS Signature Version 4), asks, and returns (headers, body). Raises Refused."""
        path = "/" + self.name + ("" if key is None else "/" + urllib.parse.quote(key, safe="/~"))
        pairs = sorted((_quoted(name), _quoted(value)) for name, value in (query or {}).items())
        text = "&".join(f"{name}={value}" for name, value in pairs)
        moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest() if body else _EMPTY
        sent = {"host": self._host, "x-amz-content-sha256": digest, "x-amz-date": moment}
        sent.update((name.lower(), value) for name, value in (headers or {}).items())
        names = ";".join(sorted(sent))
        request = "\n".join([method, path, text, *(f"{name}:{sent[name].strip()}" for name in sorted(sent)), "", names, digest])
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        key_bytes = ("AWS4" + self._secret).encode()
        for word in scope.split("/"):
            key_bytes = hmac.new(key_bytes, word.encode(), hashlib.sha256).digest()
        to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
        signature = hmac.new(key_bytes, to_sign.encode(), hashlib.sha256).hexdigest()
        sent["authorization"] = f"AWS4-HMAC-SHA256 Credential={self._access}/{scope},SignedHeaders={names},Signature={signature}"
        def answer():
            self._connection.request(method, path + ("?" + text if text else ""), body=body or None, headers=sent)
            return self._connection.getresponse()

        # One question at a time: a proxy's thread asks as well as the case that it belongs to.
        with self._lock:
            try:
                response = answer()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # A kept connection that the store has given up meanwhile.
                self._connection.close()
                response = answer()
            content = response.read()
        if response.status >= 300:
            raise Refused(response.status, content.decode(errors="replace").strip() or response.reason)
        return {name.lower(): value for name, value in response.getheaders()}, content


def fill(state, name, prefix, numbers):
    bucket = Bucket(state, name)
    for number in numbers:
        bucket.put(prefix + str(number).encode(), b"")


def _quoted(value):
    return urllib.parse.quote(value, safe="~")


def main(arguments):
    if len(arguments) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    bucket = Bucket(arguments[0], arguments[1])
    key = urllib.parse.unquote_to_bytes(arguments[3]) if len(arguments) > 3 else None
    out = sys.stdout.buffer
    match arguments[2]:
        case "make" | "empty" as command if key is None:
            getattr(bucket, command)()
        case "get" if key is not None:
            out.write(bucket.get(key))
        case "put" if key is not None:
            bucket.put(key, sys.stdin.buffer.read())
        case "head" if key is not None:
            headers = bucket.head(key)
            json.dump({"size": int(headers["content-length"]), "headers": headers}, sys.stdout)
        case "delete" | "flip" as command if key is not None:
            getattr(bucket, command)(key)
        case "list":
            for name, size in bucket.list(key or b""):
                out.write(f"{size} {_quoted(name)}\n".encode())
        case "sums":
            for name, _ in bucket.list(key or b""):
                out.write(f"{hashlib.sha256(bucket.get(name)).hexdigest()} {_quoted(name)}\n".encode())
        case "fill" if len(arguments) == 5:
            # On several connections, because a store takes its time for each.
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda first: fill(arguments[0], arguments[1], key, range(first, int(arguments[4]), 8)), range(8)))
        case "uploads" if key is None:
            for name, identifier in bucket.uploads():
                out.write(f"{_quoted(name)} {identifier}\n".encode())
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refused as problem:
        print(f"s3: {problem}", file=sys.stderr)
        sys.exit(4 if problem.status == 404 else 1)
    except OSError as problem:
        print(f"s3: {os.strerror(problem.errno) if problem.errno else problem}", file=sys.stderr)
        sys.exit(1)
