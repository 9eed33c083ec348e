"""The part of Google Cloud Storage that jobs use, in memory, with generation preconditions.

No emulator that can be installed has them for the XML interface, which obstore speaks, so this
follows Google's description of it: objects whose ETag is their MD5, ``x-goog-if-generation-match``,
and listings in the order of the keys' bytes, in pages. ``faults[key]`` is a list of what happens to
the next requests for a key: a status and perhaps a code ("503", "403 AccessDenied"), "reset" before
anything is done, "lost" after it was done, or "cut" in the middle of the content; the key of
listings is "". ``etags[key]`` replaces an object's MD5, as for objects that were composed.
``conditional`` is whether preconditions are looked at; ``tokens`` are those that requests may
bring.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_DATE = "2026-11-29T00:00:00Z"


class GoogleStorage(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, buckets):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.buckets: dict[str, dict[str, bytes]] = {name: {} for name in buckets}
        self.faults: dict[str, list[str]] = {}
        self.etags: dict[str, str] = {}
        self.requests = Counter[str]()
        self.conditional = True
        self.tokens = {"emulator", ""}
        self.page = 1000
        self.backwards = False  # the order of listings
        self.generations = count(1)
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Broken connections are the point here, not news."""


class _Requests(BaseHTTPRequestHandler):
    server: GoogleStorage
    protocol_version = "HTTP/1.1"

    def setup(self):
        self.disable_nagle_algorithm = True
        super().setup()

    def do_GET(self):
        self._answer(self._get)

    def do_PUT(self):
        self._answer(self._put)

    def do_DELETE(self):
        self._answer(self._delete)

    def _answer(self, act):
        self.sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        bucket, _, self.key = (unquote(part) for part in url.path[1:].partition("/"))
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        server = self.server
        with server.lock:
            server.requests[f"{self.command} {self.key}"] += 1
            faults = server.faults.get(self.key)
            self.fault = faults.pop(0) if faults else ""
        if self.fault[:1].isdigit():
            status, _, code = self.fault.partition(" ")
            self._error(int(status), code or "ServiceUnavailable")
        elif self.fault == "reset":
            self.close_connection = True
        elif self.headers.get("Authorization", "Bearer")[7:] not in server.tokens:
            self._error(401, "AuthenticationRequired")
        elif bucket not in server.buckets:
            self._error(404, "NoSuchBucket")
        else:
            with server.lock:
                status, headers, body = act(server.buckets[bucket])
            if self.fault == "lost":
                self.close_connection = True
            else:
                self._send(status, headers, body)

    def _get(self, objects):
        if not self.key:
            return 200, {}, self._listing(objects)
        if self.key not in objects:
            return self._xml(404, "NoSuchKey")
        data, status = objects[self.key], 200
        facts = self._facts(data)
        if self.headers.get("If-None-Match") == facts["ETag"]:
            return 304, facts, b""
        if self.headers.get("If-Match", facts["ETag"]) != facts["ETag"]:
            return self._xml(412, "PreconditionFailed")
        if wanted := re.fullmatch("bytes=([0-9]*)-([0-9]*)", self.headers.get("Range", "")):
            # Readers of Delta tables ask for parts of files: the last bytes, or some in between.
            start = int(wanted[1]) if wanted[1] else max(0, len(data) - int(wanted[2]))
            end = min(len(data), int(wanted[2]) + 1) if wanted[1] and wanted[2] else len(data)
            facts["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            data, status = data[start:end], 206
        return status, facts, data

    def _put(self, objects):
        wanted = self.headers.get("x-goog-if-generation-match")
        if wanted == "0" and self.key in objects and self.server.conditional:
            return self._xml(412, "PreconditionFailed")
        objects[self.key] = self.sent
        return 200, self._facts(self.sent), b""

    def _delete(self, objects):
        if self.key not in objects:
            return self._xml(404, "NoSuchKey")
        del objects[self.key]
        return 204, {}, b""

    def _facts(self, data):
        etag = self.server.etags.get(self.key) or hashlib.md5(data).hexdigest()
        generation = str(next(self.server.generations))
        return {
            "ETag": f'"{etag}"',
            "Last-Modified": "Sun, 29 Nov 2026 00:00:00 GMT",
            "x-goog-generation": generation,
        }

    def _listing(self, objects):
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        after, token = self.query.get("start-after", ""), self.query.get("continuation-token")
        items, folders, last = [], [], ""
        for key in sorted(objects, key=str.encode, reverse=self.server.backwards):
            if token is not None:  # the last key of the page before
                token = None if key == token else token
                continue
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix) or key.encode() <= after.encode():
                continue
            if len(items) + len(folders) == self.server.page:
                break
            last = key
            if delimiter and delimiter in rest:
                folder = prefix + rest.partition(delimiter)[0] + delimiter
                if folder not in folders:
                    folders.append(folder)
                continue
            items.append((key, len(objects[key])))
        else:
            last = ""
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_DATE}</LastModified>"
            f'<ETag>"0"</ETag><Size>{size}</Size></Contents>'
            for key, size in items
        )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            for folder in folders
        )
        more = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if last else ""
        return f"<ListBucketResult>{contents}{common}{more}</ListBucketResult>".encode()

    def _xml(self, status, code):
        return status, {}, f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()

    def _error(self, status, code):
        self._send(*self._xml(status, code))

    def _send(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.fault == "cut" else body)
        self.close_connection = self.close_connection or self.fault == "cut"

    def log_message(self, *_):
        """Keep the tests' output clean."""


@contextmanager
def google_storage(*buckets: str) -> Iterator[GoogleStorage]:
    server = GoogleStorage(buckets)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
