"""A proxy in front of a real S3 server that does to requests what busy networks do.

The Host header goes through untouched, so signatures hold. Which request suffers what follows from
the seed and the request's number alone. For a run by hand:

    python -m tests.integration.fault_proxy --upstream http://127.0.0.1:8333 --port 9000 \
        --slowdown 0.2 --reset 0.02 --cut 0.02 --trickle 0.02 --lost 0.01 --latency 0.03

Faults: ``slowdown`` answers 503 SlowDown, ``reset`` breaks the connection before anything is asked,
``lost`` after the server has done it, ``cut`` in the middle of the answer's body, and ``trickle``
sends the answer in small pieces.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

FAULTS = ("slowdown", "reset", "lost", "cut", "trickle")
_SLOWDOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_BLOCK = 64 * 1024
_PIECES = 40
_PAUSE = 0.01

Headers = dict[bytes, bytes]


class Broken(Exception):
    """This connection is to be reset."""


class FaultProxy:
    """Passes requests on; see the text above for the faults, which are given as shares of 1."""

    def __init__(
        self, upstream: str, *, seed: int = 0, latency: float = 0.0, **shares: float
    ) -> None:
        if unknown := set(shares) - set(FAULTS):
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
        self._address = urlsplit(upstream).hostname, urlsplit(upstream).port
        self._shares = shares
        self._seed = seed
        self._latency = latency
        self._number = 0
        self.counts = Counter[str]()

    def next_fault(self) -> str:
        """What happens to the next request: a fault, or ``none``."""
        chance = random.Random(f"{self._seed}:{self._number}").random()
        self._number += 1
        for fault in FAULTS:
            chance -= self._shares.get(fault, 0.0)
            if chance < 0:
                return fault
        return "none"

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One connection of a client, until either side ends it."""
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while head := await _read_head(client):
                fault = self.next_fault()
                self.counts[fault] += 1
                server = server or await asyncio.open_connection(*self._address)
                await asyncio.sleep(self._latency)
                await self._exchange(head, fault, client, answers, *server)
        except Broken:
            _reset(answers)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side has ended it, or the proxy is stopping
        finally:
            for writer in (answers, *(server or ())[1:]):
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _exchange(
        self,
        head: tuple[bytes, Headers],
        fault: str,
        client: asyncio.StreamReader,
        answers: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        requests: asyncio.StreamWriter,
    ) -> None:
        line, headers = head
        if fault == "reset":
            raise Broken
        if headers.pop(b"expect", None):
            answers.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await answers.drain()
        body = [block async for block in _body(client, headers, default=0)]
        if fault == "slowdown":
            answers.write(_answer(503, _SLOWDOWN))
            await answers.drain()
            return
        requests.write(_join(line, headers) + b"".join(body))
        await requests.drain()
        answer = await _read_head(server)
        if answer is None:
            raise Broken
        line_back, headers_back = answer
        empty = line.startswith(b"HEAD") or line_back.split()[1] in (b"204", b"304")
        if fault == "lost":
            async for _ in _body(server, headers_back, default=0 if empty else None):
                pass
            raise Broken
        answers.write(_join(line_back, headers_back))
        if not empty:
            await _pass_back(server, headers_back, fault, answers)
        await answers.drain()


async def _pass_back(
    server: asyncio.StreamReader, headers: Headers, fault: str, answers: asyncio.StreamWriter
) -> None:
    size = int(headers.get(b"content-length", b"0"))
    passed = 0
    async for block in _body(server, headers, default=None):
        if fault == "cut" and passed + len(block) > size // 2:
            answers.write(block[: size // 2 - passed])
            await answers.drain()
            raise Broken
        if fault == "trickle":
            step = len(block) // _PIECES + 1
            for start in range(0, len(block), step):
                answers.write(block[start : start + step])
                await answers.drain()
                await asyncio.sleep(_PAUSE)
        else:
            answers.write(block)
            await answers.drain()
        passed += len(block)


async def _read_head(reader: asyncio.StreamReader) -> tuple[bytes, Headers] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *rest = head[:-4].split(b"\r\n")
    pairs = (item.split(b":", 1) for item in rest)
    return line, {name.strip().lower(): value.strip() for name, value in pairs}


async def _body(
    reader: asyncio.StreamReader, headers: Headers, *, default: int | None
) -> AsyncIterator[bytes]:
    """The body as it stands on the wire; without a length, up to the end if there is no default."""
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
            if not size:
                return
    left = int(headers[b"content-length"]) if b"content-length" in headers else default
    while left is None or left > 0:
        block = await reader.read(_BLOCK if left is None else min(_BLOCK, left))
        if not block:
            if left is None:
                return
            raise asyncio.IncompleteReadError(b"", left)
        left = left if left is None else left - len(block)
        yield block


def _join(line: bytes, headers: Headers) -> bytes:
    return b"\r\n".join([line, *(n + b": " + v for n, v in headers.items()), b"", b""])


def _answer(status: int, body: bytes) -> bytes:
    length = b"%d" % len(body)
    headers = {b"content-type": b"application/xml", b"content-length": length}
    return _join(b"HTTP/1.1 %d Slow Down" % status, headers) + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side sees a reset rather than an orderly end."""
    if found := writer.get_extra_info("socket"):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def faults_before(upstream: str, **options: float) -> Iterator[str]:
    """Run a proxy in a process of its own; gives its URL."""
    command = [sys.executable, str(Path(__file__)), "--upstream", upstream, "--port", "0"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def _main(arguments: argparse.Namespace) -> None:
    shares = {fault: getattr(arguments, fault) for fault in FAULTS}
    proxy = FaultProxy(arguments.upstream, seed=arguments.seed, latency=arguments.latency, **shares)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", arguments.port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()
    print(json.dumps(proxy.counts), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="A proxy that misbehaves, on 127.0.0.1 only.")
    parser.add_argument("--upstream", required=True, help="URL of the S3 server")
    parser.add_argument("--port", type=int, required=True, help="to listen at; 0 for any")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds, for each request")
    for fault in FAULTS:
        parser.add_argument(f"--{fault}", type=float, default=0.0, help="share of requests")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
