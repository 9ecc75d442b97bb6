"""The serve command as a process: its end, its log, its errors."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from command_line import refused
from served import RunningServer

from seq2seq.serving import limits
from seq2seq.serving.server import listen
from seq2seq.translator import Translator

LINES = ["dog " * 30, "a man sees Xanthippe , too .", "two men", "狗 看见 人 。", "the old dog runs away !"]


def test_sigterm_answers_every_accepted_request(
    copying: Path, start_server: Callable[..., RunningServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    server = start_server(copying, "--max-batch", "4")
    expected = Translator.load(copying, device="cpu").translate(LINES)
    answered, enough = [], threading.Event()

    def work() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client, contextlib.suppress(httpx.TransportError):
            while True:
                answer = client.post("/translate", json={"text": LINES})
                found = [result["translations"][0]["translation"] for result in answer.json()["results"]]
                assert found == expected
                answered.append(answer.status_code)
                if len(answered) == 20:
                    enough.set()

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(work) for _ in range(8)]
        assert enough.wait(60)
        assert server.stop() == 0
        for client in clients:
            client.result()
    last = server.log.splitlines()[-1]
    counts = re.search(
        r"stopped: (\d+) requests to translate accepted, (\d+) answered, 0 clients left before their answer$", last
    )
    assert counts is not None, last
    assert counts[1] == counts[2] == str(len(answered))
    assert set(answered) == {200}
    assert not any(word in server.log for word in ("Xanthippe", "狗", "Traceback", "WARNING")), server.log
    assert list(tmp_path.iterdir()) == []


def test_a_client_that_does_not_read_does_not_keep_the_server(
    copying: Path, start_server: Callable[..., RunningServer]
) -> None:
    server = start_server(copying, "--timeout", "1")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as unread:
        unread.sendall(b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = httpx.post(f"{server.url}/translate", json={"text": "two men"}, timeout=60)
        assert answer.status_code == 200
        unread.close()
        assert server.stop() == 0
    assert "2 requests to translate accepted, 1 answered, 1 clients left" in server.log


def test_ctrl_c_ends_the_server(copying: Path, start_server: Callable[..., RunningServer]) -> None:
    server = start_server(copying)
    assert httpx.get(f"{server.url}/ready").json()["status"] == "ok"
    assert server.stop(signal.SIGINT) == 130
    assert server.log.splitlines()[-1].endswith(
        "stopped: 0 requests to translate accepted, 0 answered, 0 clients left before their answer"
    )


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no TCP_USER_TIMEOUT")
def test_stalled_connections_are_closed_by_the_system() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            seconds = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000
    assert seconds == limits.STALLED_SECONDS


def test_an_address_that_cannot_be_opened_is_named(copying: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        message = f"127.0.0.1 port {port} can't be opened: Address already in use; choose another --host or --port"
        assert refused("serve", copying, "--port", port) == message
    found = refused("serve", copying, "--host", "no such host", "--port", 0)
    assert re.fullmatch(r"no such host port 0 can't be opened: .+; choose another --host or --port", found)


def test_a_missing_model_and_options_out_of_range_are_refused(copying: Path) -> None:
    assert refused("serve", "nosuch", "--port", 0) == "there is no model directory nosuch"
    assert "Invalid value for '--max-batch': it must be at most 1,024, but is 1025: a larger batch makes" in refused(
        "serve", copying, "--max-batch", 1025
    )
    assert "Invalid value for '--timeout': it must be at most 86,400, but is 86401: no client waits" in refused(
        "serve", copying, "--timeout", 86401
    )


def test_a_missing_extra_is_named(copying: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "seq2seq.serving.app", raising=False)
    assert re.fullmatch(
        r'serve requires FastAPI and uvicorn \(.*\); run pip install "\.\[serve\]" in the checkout of seq2seq',
        refused("serve", copying),
    )


def test_only_serve_imports_fastapi() -> None:
    code = "import sys, seq2seq.commands.app, seq2seq.translator; print({'fastapi', 'uvicorn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "set()\n"
