"""Running the app on a port until the process is told to end."""

from __future__ import annotations

import logging
import signal
import socket
from types import FrameType
from typing import Any

import uvicorn

from seq2seq.serving import limits
from seq2seq.serving.app import Service, make_app

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Tells the service when it begins to end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.stopping = True
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """Open a port.

    Args:
        port: 0 chooses a free one.

    Raises:
        ValueError: the port cannot be opened.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise ValueError(f"{host} port {port} can't be opened: {reason}; choose another --host or --port") from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # inherited by the connections
        milliseconds = int(limits.STALLED_SECONDS * 1000)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    return listening


def serve_until_stopped(service: Service, listening: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C; then answer every accepted request.

    After SIGTERM, this function returns. After Ctrl-C, it raises KeyboardInterrupt; a second Ctrl-C ends at once.
    """
    config = uvicorn.Config(
        make_app(service),
        http="h11",
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=limits.MAX_CONNECTIONS,
    )
    server = _Server(config, service)
    host, port = listening.getsockname()[:2]
    log.info("serving %s on http://%s:%d", service.name, f"[{host}]" if ":" in host else host, port)
    previous: Any = signal.signal(
        signal.SIGTERM, lambda number, frame: None
    )  # uvicorn raises the signal again at its end
    try:
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, previous)
