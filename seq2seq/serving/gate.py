"""The outermost part of the server: admits requests to translate, bounds their size and time, counts and logs them."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from seq2seq.serving import limits
from seq2seq.serving.batching_queue import log_failure
from seq2seq.serving.measures import Measures

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

HEADERS = (  # of every answer; the page replaces the policy by its own
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
TRANSLATE = ("POST", "/translate")

log = logging.getLogger(__name__)


class _RefusedError(Exception):
    """A request that is answered with an error before the app sees it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _VanishedError(Exception):
    """The client closed the connection."""


class _Answer:
    """Passes the messages of an answer on and remembers its status.

    Args:
        closes: whether the connection ends with the answer, which tells the client to send nothing more on it.
    """

    def __init__(self, send: Send, *, closes: Callable[[], bool]) -> None:
        self._send = send
        self._closes = closes
        self.status = 0  # before the answer begins
        self.complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            names = {name for name, _ in message.get("headers", ())}
            message["headers"] = [*message.get("headers", ()), *(pair for pair in HEADERS if pair[0] not in names)]
            if self._closes():
                message["headers"].append((b"connection", b"close"))
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.complete = True

    async def refuse(self, status: int, reason: str, retry_after: int | None = None) -> None:
        """Answer with an error."""
        body = json.dumps({"error": reason}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if retry_after is not None:
            headers.append((b"retry-after", str(retry_after).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class Gate:
    """An ASGI app around another one.

    A request to translate is accepted before its body is read, so that the number of bodies in memory is bounded. If the
    client leaves, the app's work on the request is cancelled.

    Args:
        seconds: until an accepted request must have been answered completely, whatever the app and the client do.
        max_requests: accepted requests at the same time.
        retry_after: returns the seconds after which a refused client should ask again.
        stopping: returns whether the server ends.
    """

    def __init__(
        self,
        app: AsgiApp,
        measures: Measures,
        *,
        seconds: float,
        max_requests: int,
        retry_after: Callable[[], int],
        stopping: Callable[[], bool],
    ) -> None:
        self.app = app
        self._measures = measures
        self._seconds = seconds
        self._max_requests = max_requests
        self._retry_after = retry_after
        self._stopping = stopping

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        answer = _Answer(send, closes=self._stopping)
        translates = (scope["method"], scope["path"]) == TRANSLATE
        try:
            if translates:
                await self._translate(scope, receive, answer)
            else:
                await self.app(scope, receive, answer.send)
        except Exception as error:  # the app has answered with status 500
            log_failure("a request", error)
        finally:
            seconds = time.perf_counter() - started
            if translates and answer.status:
                self._measures.count_answer(answer.status, seconds)
            # the path is logged only if the server knows it: another one could contain a text
            known = "endpoint" in scope or translates
            log.info(
                "%s %s %s %.3f s%s",
                scope["method"] if known else "-",
                scope["path"] if known else "-",
                answer.status or "-",
                seconds,
                "" if answer.complete else " incomplete",
            )

    async def _translate(self, scope: MutableMapping[str, Any], receive: Receive, answer: _Answer) -> None:
        measures = self._measures
        if measures.accepted - measures.finished >= self._max_requests:
            await answer.refuse(429, "the server has too many requests; ask again later", self._retry_after())
            return
        measures.accepted += 1
        try:
            body = await _read_body(scope, receive)
            await self._run(scope, body, receive, answer)
        except _RefusedError as refused:
            await answer.refuse(refused.status, str(refused))
        except _VanishedError:
            measures.vanished += 1
        finally:
            measures.finished += 1

    async def _run(self, scope: MutableMapping[str, Any], body: bytes, receive: Receive, answer: _Answer) -> None:
        """Run the app until it has answered, the client has left, or the time is over."""
        unread = [body]

        async def replay() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            await asyncio.get_running_loop().create_future()  # this class, not the app, waits for the client to leave
            raise AssertionError("unreachable")

        running = asyncio.ensure_future(self.app(scope, replay, answer.send))
        leaving = asyncio.ensure_future(receive())  # after the body, the only message is that the client has left
        try:
            await asyncio.wait({running, leaving}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            elif leaving.done() and not answer.complete:
                raise _VanishedError
            elif not answer.status:
                raise _RefusedError(503, f"the answer took longer than {self._seconds:g} seconds; send fewer lines")
            elif answer.complete:
                await running
        finally:
            for task in (running, leaving):
                task.cancel()
            await asyncio.gather(running, leaving, return_exceptions=True)


async def _read_body(scope: MutableMapping[str, Any], receive: Receive) -> bytes:
    """Read the body of a request.

    Raises:
        _RefusedError: it is too large or too slow.
        _VanishedError: the client has left.
    """
    too_large = _RefusedError(413, f"a request may have at most {limits.MAX_BODY:,} bytes; send several smaller ones")
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > limits.MAX_BODY:
            raise too_large
    chunks: list[bytes] = []

    async def read() -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _VanishedError
            chunks.append(message.get("body", b""))
            if sum(map(len, chunks)) > limits.MAX_BODY:
                raise too_large
            more = message.get("more_body", False)

    try:
        await asyncio.wait_for(read(), limits.BODY_SECONDS)
    except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
        raise _RefusedError(408, f"the request did not arrive within {limits.BODY_SECONDS:g} seconds") from None
    return b"".join(chunks)


def retry_seconds(estimate: float) -> int:
    """Return the seconds of a Retry-After header, from 1 to 60."""
    return min(max(math.ceil(estimate), 1), 60)
