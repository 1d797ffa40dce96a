#!/usr/bin/env python3
"""A model of Nextcloud's WebDAV, for tests: files under /remote.php/dav/files/USER, chunked upload v2 under /remote.php/dav/uploads/USER.

It is no Nextcloud. It does what Nextcloud's developer manual says of the protocol, as strictly as it can be read: every request of an upload
names its Destination, chunks are numbered from 1 to 10000 and have 5 MiB to 5 GB but for the last, the assembly wants the right OC-Total-Length.

    nextcloud-model.py DIR PORT USER PASSWORD

DIR/srv is the user's tree, DIR/uploads holds the chunks. DIR/requests gets a line for each request: method, path, status. DIR/faults, where it
exists, is a JSON list of {"method", "contains", "status", "skip", "times"}: such requests are refused, or with "status": 0 cut off half-way.
"""
import base64
import http.server
import json
import os
import shutil
import socket
import socketserver
import sys
import threading
import time
import urllib.parse
from email.utils import formatdate
from xml.sax.saxutils import escape

folder, port, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
FILES, UPLOADS = f"/remote.php/dav/files/{user}", f"/remote.php/dav/uploads/{user}"
SMALLEST, LARGEST = 5 << 20, 5_000_000_000
lock = threading.Lock()
roots = {FILES: os.fsencode(folder) + b"/srv", UPLOADS: os.fsencode(folder) + b"/uploads"}
for root in roots.values():
    os.makedirs(root, exist_ok=True)


class Refusal(Exception):
    def __init__(self, status, reason=""):
        super().__init__(reason)
        self.status = status


def local(path):
    """The place on the disk behind a decoded path, the tree it is in, and the segments below that."""
    for prefix, root in roots.items():
        encoded = prefix.encode()
        if path == encoded or path.startswith(encoded + b"/"):
            names = [name for name in path[len(encoded):].split(b"/") if name]
            if any(name in (b".", b"..") for name in names):
                raise Refusal(400)
            return b"/".join([root] + names), prefix, names
    raise Refusal(404)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Nextcloud-model"

    def log_message(self, *_):
        pass

    # Every request comes through here: log-in, faults, refusals.
    def handle_request(self):
        self.consumed = False
        try:
            self.check_login()
            self.inject()
            self.path_bytes = urllib.parse.unquote_to_bytes(self.path.split("?")[0])
            getattr(self, "dav_" + self.command.lower())()
        except Refusal as refusal:
            self.answer(refusal.status, str(refusal).encode())
        except OSError as error:
            self.answer(507 if error.errno == 28 else 400 if error.errno in (36, 84) else 404 if error.errno == 2 else 500, b"")

    do_GET = do_PUT = do_MKCOL = do_MOVE = do_DELETE = do_PROPFIND = do_OPTIONS = handle_request

    def check_login(self):
        wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            raise Refusal(401)

    def inject(self):
        with lock:
            try:
                with open(f"{folder}/faults", encoding="utf-8") as file:
                    faults = json.load(file)
            except (FileNotFoundError, ValueError):
                return
            for fault in faults:
                if fault["method"] != self.command or fault["contains"] not in self.path or fault.get("times", 1) <= 0:
                    continue
                if fault.get("skip", 0) > 0:
                    fault["skip"] -= 1
                else:
                    fault["times"] = fault.get("times", 1) - 1
                    hit = fault["status"]
                    break
            else:
                hit = None
            with open(f"{folder}/faults", "w", encoding="utf-8") as file:
                json.dump(faults, file)
        if hit == 0:
            self.rfile.read(min(1000, int(self.headers.get("Content-Length", "0"))))
            self.connection.shutdown(2)
            raise Refusal(0)
        if hit is not None:
            raise Refusal(hit)

    def answer(self, status, body=b"", headers=()):
        with lock, open(f"{folder}/requests", "ab") as file:
            file.write(f"{self.command} {self.path} {status}\n".encode())
        if status == 0:
            self.close_connection = True
            return
        if not self.consumed and (self.headers.get("Content-Length", "0") != "0" or self.headers.get("Transfer-Encoding")):
            self.close_connection = True
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="Nextcloud"')
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if status != 204:
            self.wfile.write(body)
        if self.close_connection and not self.consumed:
            self.linger()

    def linger(self):
        """As Apache does: the answer would be lost with a connection that is closed while the client still sends."""
        self.wfile.flush()
        try:
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(2)
            while self.connection.recv(1 << 16):
                pass
        except OSError:
            pass  # It has gone, or says nothing more.

    def pieces(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while True:
                count = int(self.rfile.readline().split(b";")[0], 16)
                piece = self.rfile.read(count)
                self.rfile.readline()
                if count == 0:
                    break
                yield piece
        else:
            left = int(self.headers.get("Content-Length", "0"))
            while left > 0:
                piece = self.rfile.read(min(left, 1 << 20))
                if not piece:
                    raise Refusal(0)
                left -= len(piece)
                yield piece
        self.consumed = True

    def body(self):
        return b"".join(self.pieces())

    def destination(self):
        header = self.headers.get("Destination")
        if not header:
            raise Refusal(400, "no Destination")
        place = urllib.parse.urlsplit(header)
        if place.netloc and place.netloc != self.headers.get("Host"):
            raise Refusal(502, "another server")
        return urllib.parse.unquote_to_bytes(place.path)

    def upload(self, names):
        """The folder of an upload and what was said when it began."""
        place = b"/".join([roots[UPLOADS], names[0]])
        try:
            with open(place + b"/.destination", "rb") as file:
                began = file.read()
        except FileNotFoundError:
            raise Refusal(404) from None
        if began != self.destination():
            raise Refusal(412, "another Destination than at the beginning")
        if not self.headers.get("OC-Total-Length", "").isdigit():
            raise Refusal(400, "no OC-Total-Length")
        return place

    def times(self, place):
        modified = self.headers.get("X-OC-Mtime")
        if modified is None:
            return []
        os.utime(place, (time.time(), int(modified)))
        return [("X-OC-MTime", "accepted")]

    # Methods

    def dav_options(self):
        self.answer(200, b"", [("DAV", "1, 3, nextcloud-checksum-update"), ("Allow", "GET, PUT, MKCOL, MOVE, DELETE, PROPFIND")])

    def dav_mkcol(self):
        self.body()
        place, prefix, names = local(self.path_bytes)
        if prefix == UPLOADS:
            if len(names) != 1:
                raise Refusal(403)
            target, tree, _ = local(self.destination())
            if tree != FILES or not os.path.isdir(os.path.dirname(target)):
                raise Refusal(409)
        if os.path.lexists(place):
            raise Refusal(405)
        if not os.path.isdir(os.path.dirname(place)):
            raise Refusal(409)
        os.mkdir(place)
        if prefix == UPLOADS:
            with open(place + b"/.destination", "wb") as file:
                file.write(self.destination())
        self.answer(201)

    def dav_put(self):
        place, prefix, names = local(self.path_bytes)
        if prefix == UPLOADS:
            if len(names) != 2:
                raise Refusal(403)
            self.upload(names)
            if not names[1].isdigit() or not 1 <= int(names[1]) <= 10000:
                raise Refusal(400, "Invalid chunk name, must be numeric between 1 and 10000")
            if int(self.headers.get("Content-Length", "0")) > LARGEST:
                raise Refusal(413)
        if os.path.isdir(place):
            raise Refusal(409)
        if not os.path.isdir(os.path.dirname(place)):
            raise Refusal(409)
        part = os.fsencode(folder) + b"/part-%d" % threading.get_ident()
        try:
            with open(part, "wb") as file:
                for piece in self.pieces():
                    file.write(piece)
            existed = os.path.exists(place)
            os.rename(part, place)
        finally:
            if os.path.exists(part):
                os.unlink(part)
        self.answer(204 if existed else 201, b"", self.times(place))

    def dav_get(self):
        place, prefix, _ = local(self.path_bytes)
        if prefix == UPLOADS:
            raise Refusal(405, "Reading intermediate uploads is not allowed")
        if os.path.isdir(place):
            raise Refusal(405)
        size = os.path.getsize(place)
        start, status, headers = 0, 200, []
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and wanted.endswith("-"):
            start = int(wanted[6:-1])
            if start >= size:
                raise Refusal(416)
            status, headers = 206, [("Content-Range", f"bytes {start}-{size - 1}/{size}")]
        with open(place, "rb") as file:
            file.seek(start)
            self.answer(status, file.read(), headers)

    def dav_delete(self):
        self.body()
        place, _, names = local(self.path_bytes)
        if not names:
            raise Refusal(403)
        if not os.path.lexists(place):
            raise Refusal(404)
        if os.path.isdir(place):
            shutil.rmtree(place)
        else:
            os.unlink(place)
        self.answer(204)

    def dav_move(self):
        self.body()
        place, prefix, names = local(self.path_bytes)
        target, tree, target_names = local(self.destination())
        if tree != FILES or not target_names:
            raise Refusal(403)
        if not os.path.isdir(os.path.dirname(target)):
            raise Refusal(409)
        existed = os.path.lexists(target)
        if existed and self.headers.get("Overwrite", "T") == "F":
            raise Refusal(412)
        if prefix == UPLOADS:
            if len(names) != 2 or names[1] != b".file":
                raise Refusal(403)
            self.assemble(self.upload(names), target)
        else:
            if not os.path.lexists(place):
                raise Refusal(404)
            if existed:
                if os.path.isdir(target):
                    shutil.rmtree(target)
                else:
                    os.unlink(target)
            os.rename(place, target)
        self.answer(204 if existed else 201, b"", self.times(target) if prefix == UPLOADS else [])

    def assemble(self, place, target):
        chunks = sorted(name for name in os.listdir(place) if name.isdigit())
        sizes = [os.path.getsize(place + b"/" + name) for name in chunks]
        if sum(sizes) != int(self.headers["OC-Total-Length"]):
            raise Refusal(400, f"Chunks on server do not sum up to {self.headers['OC-Total-Length']} but to {sum(sizes)} bytes")
        if any(size < SMALLEST for size in sizes[:-1]):
            raise Refusal(400, "a chunk before the last is too small")
        if os.path.isdir(target):
            raise Refusal(409)
        with open(place + b"/.whole", "wb") as whole:
            for name in chunks:
                with open(place + b"/" + name, "rb") as file:
                    shutil.copyfileobj(file, whole)
        os.rename(place + b"/.whole", target)
        shutil.rmtree(place)

    def dav_propfind(self):
        self.body()
        place, _, _ = local(self.path_bytes)
        status = os.stat(place)
        base = b"/" + self.path_bytes.strip(b"/")
        entries = [(base, status)]
        if self.headers.get("Depth", "0") == "infinity":
            raise Refusal(403)
        if self.headers.get("Depth", "0") == "1" and os.path.isdir(place):
            for name in os.listdir(place):
                if name == b".destination":
                    continue
                try:
                    entries.append((base + b"/" + name, os.stat(place + b"/" + name)))
                except FileNotFoundError:
                    pass
        out = ['<?xml version="1.0"?><d:multistatus xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns">']
        for path, found in entries:
            is_folder = found.st_mode & 0o170000 == 0o040000
            href = escape(urllib.parse.quote(path)) + ("/" if is_folder else "")
            kind = "<d:collection/>" if is_folder else ""
            size = "" if is_folder else f"<d:getcontentlength>{found.st_size}</d:getcontentlength>"
            quota = "<d:quota-available-bytes>50000000000</d:quota-available-bytes>" if is_folder else ""
            out.append(
                f"<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype>{kind}</d:resourcetype>{size}{quota}"
                f"<d:getlastmodified>{formatdate(int(found.st_mtime), usegmt=True)}</d:getlastmodified></d:prop>"
                "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>")
        out.append("</d:multistatus>")
        self.answer(207, "".join(out).encode(), [("Content-Type", "application/xml; charset=utf-8")])


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64


Server(("127.0.0.1", port), Handler).serve_forever()
