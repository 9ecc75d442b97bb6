"""Load of the server: concurrent clients on this machine, each answer compared with the translator's, and bad clients.

Starts ``seq2seq serve`` and measures one client, then many; then sends requests that must be refused or survived; then
ends the server with SIGTERM while the clients go on. Prints the counts as JSON and exits with code 1 if an answer was
wrong or lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from machine import machine

from seq2seq.translator import Translator

MOST_TEXTS = 4  # of a request


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    body: bytes


class ConnectionClosedError(Exception):
    """The server closed the connection before the answer was complete."""


class Client:
    """One connection at a time to the server, which is opened again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None
        self._reader = asyncio.StreamReader()

    async def post(self, body: bytes, *, pause: float = 0.0) -> Answer:
        """Send a request to translate.

        Args:
            pause: seconds to wait in the middle of the body.
        """
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            self._writer.write(head.encode() + body[: len(body) // 2])
            if pause:
                await self._writer.drain()
                await asyncio.sleep(pause)
            self._writer.write(body[len(body) // 2 :])
            await self._writer.drain()
            return await self._read()
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise ConnectionClosedError from error

    async def _read(self) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = re.search(r"content-length: (\d+)", head)
        assert length is not None, head
        answer = Answer(int(head.split()[1]), await self._reader.readexactly(int(length[1])))
        if "connection: close" in head:
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Load:
    """Clients that translate texts whose translations are known, and their counts."""

    def __init__(self, port: int, expected: dict[str, str], seed: int = 1) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds: list[float] = []  # of each answer
        self._port = port
        self._expected = expected
        self._texts = list(expected)
        self._random = random.Random(seed)

    async def run(self, clients: int, seconds: float) -> dict[str, Any]:
        """Let clients send requests, each after the answer to its last one."""
        started = time.perf_counter()
        await asyncio.gather(*(self._client(started + seconds) for _ in range(clients)))
        took = time.perf_counter() - started
        cuts = statistics.quantiles(self.seconds, n=100) if len(self.seconds) > 1 else self.seconds * 99
        return {
            "clients": clients,
            "seconds": round(took, 1),
            **self.counts,
            "texts_per_second": round(self.counts["texts"] / took, 1),
            **{f"p{at}_ms": round(1000 * cuts[at - 1]) for at in (50, 95, 99) if cuts},
        }

    async def _client(self, end: float) -> None:
        client = Client(self._port)
        while time.perf_counter() < end:
            texts = self._random.choices(self._texts, k=self._random.randint(1, MOST_TEXTS))
            sent = time.perf_counter()
            try:
                answer = await client.post(json.dumps({"text": texts}).encode())
            except ConnectionRefusedError:
                break
            except ConnectionClosedError:
                self.counts["closed_without_answer"] += 1
                continue
            self.counts[f"status_{answer.status}"] += 1
            if answer.status != 200:
                await asyncio.sleep(0.2)
                continue
            self.seconds.append(time.perf_counter() - sent)
            self.check(texts, answer.body)
        client.close()

    def check(self, texts: list[str], body: bytes) -> None:
        """Compare an answer with the translator's texts."""
        found = [result["translations"][0]["translation"] for result in json.loads(body)["results"]]
        self.counts["texts"] += len(texts)
        wrong = len(found) != len(texts) or any(
            self._expected[text] != translation for text, translation in zip(texts, found, strict=False)
        )
        self.counts["answers_that_differ"] += wrong


async def bad_clients(port: int, text: str, count: int) -> dict[str, int]:
    """Send requests that must be refused or survived; return how each ended."""
    found: Counter[str] = Counter()
    good = json.dumps({"text": text}).encode()

    async def post(name: str, body: bytes, pause: float = 0.0) -> None:
        client = Client(port)
        try:
            found[f"{name}: {(await client.post(body, pause=pause)).status}"] += 1
        except ConnectionClosedError:
            found[f"{name}: connection closed"] += 1
        finally:
            client.close()

    async def vanish() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(good)}\r\n\r\n"
        writer.write(head.encode() + good[: random.choice([len(good), len(good) // 2])])
        await writer.drain()
        writer.close()
        found["vanished"] += 1

    await asyncio.gather(
        post("50 MB", b'{"text": "' + b"x" * 50_000_000 + b'"}'),
        *(post("malformed JSON", good[:-1]) for _ in range(count)),
        *(post("unknown option", b'{"text": "a", "beams": 3}') for _ in range(count)),
        *(post("slow", good, pause=3.0) for _ in range(count)),
        *(vanish() for _ in range(count)),
    )
    return dict(found)


class Server:
    """The server in another process, whose log is read."""

    def __init__(self, model: str, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "seq2seq", "serve", model, "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        self._started = threading.Event()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            if " serving " in line:
                self._started.set()
        self._started.set()

    def port(self) -> int:
        """Wait until the server listens."""
        self._started.wait()
        found = re.search(r":(\d+)$", self.log[-1]) if self.log else None
        if found is None:
            sys.exit("the server did not start: " + "\n".join(self.log))
        return int(found[1])

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait()
        self._reading.join()
        return code


def mixed_texts(path: Path, count: int) -> list[str]:
    """Return short, ordinary and long texts made of the first lines of a file."""
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()][:count]
    short = [" ".join(line.split()[:3]) for line in lines[::3]]
    long = [" ".join(pair) for pair in zip(lines[1::3], lines[2::3], strict=False)]
    return list(dict.fromkeys([*lines, *short, *long]))


async def measure(server: Server, port: int, expected: dict[str, str], clients: int, seconds: float) -> dict[str, Any]:
    """Run all parts and return their counts."""
    report: dict[str, Any] = {"one_client": await Load(port, expected).run(1, seconds / 4)}
    report["clients"] = await Load(port, expected, seed=2).run(clients, seconds)
    beside = Load(port, expected, seed=3)
    text = max(expected, key=len)
    report["beside_bad_clients"], report["bad_clients"] = await asyncio.gather(
        beside.run(clients, 8), bad_clients(port, text, clients)
    )
    ending = Load(port, expected, seed=4)
    load = asyncio.ensure_future(ending.run(clients, 600))
    await asyncio.sleep(3)
    server.process.send_signal(signal.SIGTERM)
    report["during_sigterm"] = await load
    report["exit_code"] = await asyncio.to_thread(server.wait)
    report["log"] = server.log[-1].partition("INFO ")[2]
    accepted, answered, left = map(int, re.findall(r"\d+", report["log"]))
    report["lost"] = accepted - answered - left
    received = sum(
        value
        for part in ("one_client", "clients", "beside_bad_clients", "during_sigterm")
        for name, value in report[part].items()
        if name.startswith("status_") and name != "status_429"
    )
    refused = sum(value for name, value in report["bad_clients"].items() if name[-3:].isdigit() and ": 429" not in name)
    report["answers_received"] = received + refused
    report["answered_but_not_received"] = answered - received - refused
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model directory or a run directory")
    parser.add_argument("src", type=Path, help="file of source lines")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--texts", type=int, default=100, help="lines of the file that are used")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the server; 0: PyTorch's choice")
    args = parser.parse_args()
    texts = mixed_texts(args.src, args.texts)
    translator = Translator.load(args.model)
    expected = dict(zip(texts, translator.translate(texts), strict=True))
    server = Server(args.model, ["--threads", str(args.threads)])
    try:
        report = asyncio.run(measure(server, server.port(), expected, args.clients, args.seconds))
    finally:
        server.process.kill()
    print(json.dumps(machine() | {"texts": len(texts)} | report, indent=2))
    parts = [part for part in report.values() if isinstance(part, dict)]
    differing = sum(part.get("answers_that_differ", 0) for part in parts)
    sys.exit(1 if differing or report["lost"] or report["exit_code"] else 0)


if __name__ == "__main__":
    main()
