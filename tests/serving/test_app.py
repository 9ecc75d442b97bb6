"""The interface of the server: results, batches, limits, refusals and messages."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from served import save_model

from seq2seq.commands.serve import without_samples
from seq2seq.serving import limits
from seq2seq.serving.app import Service, TranslateRequest, make_app
from seq2seq.serving.batching_queue import RequestOptions
from seq2seq.serving.page import load_page
from seq2seq.translation import Translation
from seq2seq.translator import Translator

LINES = ["a man sees Xanthippe , too .", "", "two men", "狗 看见 人 。", "the old dog runs away !", "dog " * 30]


class Answer(NamedTuple):
    """An answer of the server."""

    status: int
    headers: httpx.Headers
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture(scope="module")
def translator(copying: Path) -> Translator:
    return Translator.load(copying, device="cpu")


def serve(service: Service, work: Callable[[Ask], Awaitable[None]], **options: Any) -> None:
    """Run a test's requests against an app in this process."""
    app = make_app(service, **options)

    async def run() -> None:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            async def ask(path: str = "/translate", *, content: bytes | None = None, **body: Any) -> Answer:
                if content is None and not body:
                    answer = await client.get(path)
                else:
                    data = content if content is not None else json.dumps(body).encode()
                    answer = await client.post(path, content=data, headers={"content-type": "application/json"})
                return Answer(answer.status_code, answer.headers, answer.text)

            await work(ask)

    asyncio.run(run())


def make_service(translator: Translator, *, max_batch: int = 8, timeout: float = 60.0) -> Service:
    return Service(translator, name="tiny", max_batch=max_batch, timeout=timeout)


def one_answer(service: Service, path: str = "/translate", **request: Any) -> Answer:
    found: list[Answer] = []

    async def work(ask: Ask) -> None:
        found.append(await ask(path, **request))

    serve(service, work)
    return found[0]


def close(found: Any, expected: Any) -> bool:
    """Compare plain values; numbers may differ by what another batch changes."""
    if isinstance(expected, float):
        return found == pytest.approx(expected, abs=1e-4)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return bool(found == expected)


def plain(translations: Sequence[Translation]) -> dict[str, Any]:
    return {"translations": [each.as_dict() | {"attention": None} for each in translations]}


# ---- results


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beam_size": 1},
        {"beam_size": 4, "n_best": 3},
        {"length_penalty": 0.0},
        {"max_length_ratio": 0.5},
        {"min_length": 4},
        {"too_long": "split"},
        {"no_repeat_ngram": 1},
        {"repetition_penalty": 3.0},
        {"mbr": "bleu"},
    ],
    ids=str,
)
def test_an_answer_is_that_of_the_translator(translator: Translator, options: dict[str, Any]) -> None:
    answer = one_answer(make_service(translator, max_batch=4), text=LINES, **options)
    search = {name: value for name, value in options.items() if name != "n_best"}
    expected = translator.with_search(**search).search(LINES, n_best=options.get("n_best", 1))
    assert answer.status == 200
    assert answer.json()["model"] == "tiny"
    assert close(answer.json()["results"], [plain(best) for best in expected])
    if options:
        default = [plain(best) for best in translator.search(LINES)]
        assert not close(answer.json()["results"], default), f"{options} has no effect on these lines"


def test_every_search_option_of_the_request_is_passed_on() -> None:
    given = {"beam_size": 2, "length_penalty": 0.5, "max_length_ratio": 2.0, "min_length": 1, "too_long": "cut"}
    given |= {"no_repeat_ngram": 3, "repetition_penalty": 1.5, "mbr": "chrf"}
    options = TranslateRequest(text="a", n_best=2, attention=True, **given).options()  # type: ignore[arg-type]
    assert vars(options) == given | {"n_best": 2, "attention": True}


def test_a_model_saved_with_sampling_is_served_with_beam_search(
    translator: Translator, caplog: pytest.LogCaptureFixture
) -> None:
    assert without_samples(translator) is translator
    assert not caplog.messages
    served = without_samples(translator.with_search(samples=4, top_p=0.9))
    assert served.search_config.samples == 0
    assert caplog.messages == [
        "the model was saved with search.samples=4, but serve uses beam search, because a sample depends on the number of "
        "its line"
    ]


def test_a_text_is_a_list_of_one_text_and_a_line_end_in_it_is_a_space(translator: Translator) -> None:
    one = one_answer(make_service(translator), text="two\nmen").json()
    assert close(one["results"], [plain(translator.search(["two men"])[0])])


def test_attention_weights_are_those_of_the_trace(translator: Translator) -> None:
    answer = one_answer(make_service(translator), text=LINES, attention=True, n_best=2, too_long="split")
    results = answer.json()["results"]
    for line, result in zip(LINES, results, strict=True):
        best = result["translations"][0]
        if not 0 < len(best["source_pieces"]) <= 12:  # blank or split
            assert best["attention"] is None
            continue
        found, provenance = translator.with_search(too_long="split").trace(line)
        assert found.pieces == best["pieces"]
        assert len(best["attention"][0]) == len(best["source_pieces"]) + 1
        for row, expected in zip(best["attention"], provenance.weights[:-1].tolist(), strict=True):
            assert row == pytest.approx(expected, abs=1e-3)
    assert [result["translations"][0]["attention"] is None for result in results] == [False, True, *[False] * 3, True]
    second = results[0]["translations"][1]
    rows = second["attention"]
    assert [max(range(len(second["source_pieces"])), key=row.__getitem__) for row in rows] == second["alignment"]


def test_attention_is_null_without_attention_weights(tmp_path: Path) -> None:
    blind = Translator.load(save_model(tmp_path / "blind", attention="none"), device="cpu")
    answer = one_answer(make_service(blind), text="two men", attention=True)
    assert answer.json()["results"][0]["translations"][0]["attention"] is None
    health = one_answer(make_service(blind), "/health").json()
    assert (health["attention"], health["copies"]) == (False, False)


def test_a_streamed_list_has_a_line_of_json_for_each_text(translator: Translator) -> None:
    answer = one_answer(make_service(translator, max_batch=2), text=LINES, stream=True)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert close(lines, [plain(best) for best in translator.search(LINES)])
    assert one_answer(make_service(translator), text=[], stream=True).text == ""
    assert one_answer(make_service(translator), text=[]).json()["results"] == []


# ---- batches


def test_concurrent_requests_share_batches_and_keep_their_answers(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[list[str], int]] = []
    original = Translator.search

    def search(self: Translator, lines: list[str], **options: Any) -> Any:
        batches.append((lines, self.search_config.beam_size))
        return original(self, lines, **options)

    monkeypatch.setattr(Translator, "search", search)
    service = make_service(translator, max_batch=8)
    requests = [
        {"text": [LINES[number % len(LINES)], f"two men {number}"], "beam_size": 1 + number % 2} for number in range(24)
    ]

    async def work(ask: Ask) -> None:
        answers = await asyncio.gather(*(ask(**request) for request in requests))
        for request, answer in zip(requests, answers, strict=True):
            expected = original(translator.with_search(beam_size=request["beam_size"]), request["text"])  # type: ignore[arg-type]
            assert close(answer.json()["results"], [plain(best) for best in expected])

    serve(service, work)
    assert sum(len(lines) for lines, _ in batches) == 48
    assert max(len(lines) for lines, _ in batches) == 8
    assert len(batches) <= 10, "the requests were not batched"
    assert (service.measures.lines, service.measures.batches) == (48, len(batches))


def test_a_batch_has_the_oldest_request_and_others_with_its_options(translator: Translator) -> None:
    greedy, wide = RequestOptions(beam_size=1), RequestOptions(beam_size=4)

    async def run() -> list[list[str]]:
        queue = make_service(translator, max_batch=3).queue
        queue._worker = asyncio.create_task(asyncio.sleep(0))  # takes no batch
        requests = [(["a"], greedy), (["b"], wide), (["c", "d", "e"], greedy), (["left"], greedy), (["f"], greedy)]
        calls = [asyncio.create_task(queue.translate(lines, options)) for lines, options in requests]
        await asyncio.sleep(0)
        assert queue.waiting == 7
        calls[3].cancel()
        await asyncio.sleep(0)
        batches = []
        while jobs := queue._take():
            batches.append([line for job in jobs for line in job.lines])
        for call in calls:
            call.cancel()
        return batches

    assert asyncio.run(run()) == [["a", "f"], ["b"], ["c", "d", "e"]]


def test_a_form_of_another_site_cannot_send_a_request(translator: Translator) -> None:
    """A page of another origin can post only the types of forms without being allowed to."""

    async def run() -> int:
        transport = httpx.ASGITransport(app=make_app(make_service(translator)))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post("/translate", content=b'{"text": "a"}', headers={"content-type": "text/plain"})
        return answer.status_code

    assert asyncio.run(run()) == 422


def test_a_failing_request_does_not_fail_those_in_its_batch(
    translator: Translator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = Translator.search

    def search(self: Translator, lines: list[str], **options: Any) -> Any:
        if "secret" in lines:
            raise RuntimeError("no memory for secret")
        return original(self, lines, **options)

    monkeypatch.setattr(Translator, "search", search)

    async def work(ask: Ask) -> None:
        texts = ["two men", "dog", "secret", "a man"]
        answers = await asyncio.gather(*(ask(text=text) for text in texts))
        assert [answer.status for answer in answers] == [200, 200, 500, 200]
        message = "the model failed on this request; the log of the server says where"
        assert answers[2].json() == {"error": message}
        streamed = await ask(text=["dog", "secret"], stream=True)
        first, last = map(json.loads, streamed.text.splitlines())
        assert first["translations"]
        assert last == {"error": "the model failed on this list; the log of the server says where"}
        assert (await ask(text=["secret"], stream=True)).status == 500

    serve(make_service(translator, max_batch=1), work)
    assert "a batch failed with RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_an_error_of_the_server_is_logged_without_its_message(
    translator: Translator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(translator)

    async def fail(*arguments: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(service.queue, "translate", fail)
    answer = one_answer(service, text="secret")
    message = "the server failed on this request; its log says where"
    assert (answer.status, answer.json()) == (500, {"error": message})
    assert answer.headers["cache-control"] == "no-store"
    assert "a request failed with RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    assert (service.measures.accepted, service.measures.finished) == (1, 1)


# ---- limits


@pytest.mark.parametrize(
    ("request_body", "message"),
    [
        (b"{", "body: json decode error"),
        (b'{"text": "a"', "body: json decode error"),
        (b"[]", "body: input should be a valid dictionary or object to extract fields from"),
        (b"{}", "body text: field required"),
        (b'{"text": 1}', "body text: input should be a valid string"),
        (b'{"text": "a", "beams": 1}', "body beams: extra inputs are not permitted"),
        (b'{"text": "a", "beam_size": 21}', "body beam_size: input should be less than or equal to 20"),
        (b'{"text": "a", "beam_size": "3"}', "body beam_size: input should be a valid integer"),
        (b'{"text": "a", "beam_size": 3.5}', "body beam_size: input should be a valid integer"),
        (b'{"text": "a", "beam_size": true}', "body beam_size: input should be a valid integer"),
        (b'{"text": "a", "n_best": 21}', "body n_best: input should be less than or equal to 20"),
        (b'{"text": "a", "length_penalty": NaN}', "body length_penalty: input should be a finite number"),
        (b'{"text": "a", "length_penalty": 10}', "body length_penalty: input should be less than 10"),
        (b'{"text": "a", "max_length_ratio": 11}', "body max_length_ratio: input should be less than or equal to 10"),
        (b'{"text": "a", "min_length": 1001}', "body min_length: input should be less than or equal to 1000"),
        (b'{"text": "a", "too_long": "drop"}', "body too_long: input should be 'cut' or 'split'"),
        (b'{"text": "%s"}' % (b"x" * 20_001), "body text: string should have at most 20000 characters"),
        (
            b'{"text": "two \\ud800 men"}',
            "body text: input should be a valid string, unable to parse raw data as a unicode string",
        ),
        (b'{"text": [%s""]}' % (b'"",' * 10_000), "body text: input should be a valid string"),
    ],
)
def test_an_invalid_request_is_refused_with_one_sentence(
    translator: Translator, request_body: bytes, message: str
) -> None:
    answer = one_answer(make_service(translator), content=request_body)
    assert (answer.status, answer.json()) == (422, {"error": f"the request is not valid: {message}"})


def test_a_whole_number_may_be_written_with_a_fraction_of_zero(translator: Translator) -> None:
    """The schema of the description says integer, and JSON Schema counts 3.0 as one."""
    service = make_service(translator)
    written = one_answer(service, content=b'{"text": "two men", "beam_size": 3.0, "n_best": 2.0}')
    assert written.status == 200
    assert written.json() == one_answer(service, text="two men", beam_size=3, n_best=2).json()


def test_the_description_has_the_limits_of_every_number() -> None:
    properties = TranslateRequest.model_json_schema()["properties"]
    kinds = {name: (found.get("anyOf") or [found])[0] for name, found in properties.items()}
    numbers = {name: kind for name, kind in kinds.items() if kind.get("type") in ("integer", "number")}
    assert {"n_best", "beam_size", "min_length", "no_repeat_ngram", "length_penalty"} <= numbers.keys()
    for kind in numbers.values():
        assert "minimum" in kind
        assert "maximum" in kind or "exclusiveMaximum" in kind


def test_other_refusals(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service(translator)
    best = one_answer(service, text="a", n_best=4)
    message = "n-best must be from 1 to the beam size, which is 3, but is 4; set the beam size higher"
    assert (best.status, best.json()) == (422, {"error": message})
    many = one_answer(service, text=["a"] * 34, n_best=3, attention=True)
    message = (
        "attention is given for at most 100 translations (texts * n_best), but 102 are asked for; send fewer texts, or "
        "remove attention"
    )
    assert (many.status, many.json()) == (422, {"error": message})
    assert one_answer(service, text=["a"] * 33, n_best=3, attention=True).status == 200
    assert one_answer(service, "/nosuch").json() == {"error": "Not Found"}
    assert one_answer(service, content=b'{"text": "\xff"}').status == 400
    monkeypatch.setattr(limits, "MAX_BODY", 30)
    large = one_answer(service, text="x" * 30)
    message = "a request may have at most 30 bytes; send several smaller ones"
    assert (large.status, large.json()) == (413, {"error": message})
    assert one_answer(service, text="x").status == 200


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": "/translate", "headers": list(headers), "query_string": b""}


async def talk(app: Any, receive: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Send one request to an ASGI app and return its messages."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope((b"content-type", b"application/json")), receive, send)
    return sent


def test_a_body_without_a_length_is_bounded_and_must_arrive_in_time(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(make_service(translator))
    received = 0

    async def endless() -> Any:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    async def silent() -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(limits, "MAX_BODY", 30)
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    start, _ = asyncio.run(talk(app, endless))
    assert (start["status"], received) == (413, 4)
    start, body = asyncio.run(talk(app, silent))
    assert start["status"] == 408
    assert json.loads(body["body"]) == {"error": "the request did not arrive within 0.05 seconds"}


def test_a_client_that_leaves_is_not_translated_for(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service(translator, max_batch=1)
    app = make_app(service)
    monkeypatch.setattr(service.queue, "_run", lambda: asyncio.sleep(0))  # the model never answers
    messages = [
        {"type": "http.request", "body": b'{"text": "two men"}', "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        if len(messages) == 1:
            await asyncio.sleep(0.1)
        return messages.pop(0)

    assert asyncio.run(talk(app, receive)) == []
    assert (service.measures.accepted, service.measures.finished, service.measures.vanished) == (1, 1, 1)
    assert service.queue._take() == []


def test_requests_above_the_limit_are_refused_with_the_time_to_retry(translator: Translator) -> None:
    service = make_service(translator, max_batch=2)

    async def work(ask: Ask) -> None:
        answers = await asyncio.gather(*(ask(text=[f"two men {number}", "dog"]) for number in range(10)))
        refused = [answer for answer in answers if answer.status == 429]
        assert [answer.status for answer in answers].count(200) == 3
        assert len(refused) == 7
        assert refused[0].json() == {"error": "the server has too many requests; ask again later"}
        assert 1 <= int(refused[0].headers["retry-after"]) <= 60
        assert (await ask(text="dog")).status == 200
        assert (await ask("/health")).status == 200

    serve(service, work, max_requests=3)
    assert (service.measures.accepted, service.measures.finished) == (4, 4)


def test_the_time_to_retry_is_that_of_the_waiting_lines(translator: Translator) -> None:
    service = make_service(translator)
    assert service.retry_after() == 1
    service.measures.count_batch(10, 5.0)
    assert service.measures.seconds_for(7) == 3.5


def test_an_answer_that_takes_too_long_is_refused(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service(translator, timeout=0.2)
    monkeypatch.setattr(service.queue, "_run", lambda: asyncio.sleep(0))  # the model never answers
    for stream in (False, True):
        answer = one_answer(service, text="two men", stream=stream)
        message = "the answer took longer than 0.2 seconds; send fewer texts, or a list with stream"
        assert (answer.status, answer.json()) == (503, {"error": message})
        assert answer.headers["retry-after"] == "1"


# ---- the other addresses


def test_health_ready_metrics_and_openapi(translator: Translator) -> None:
    service = make_service(translator)

    async def work(ask: Ask) -> None:
        await ask(text=["two men", "dog"])
        await ask(text="a", n_best=9)
        health = (await ask("/health")).json()
        assert (health["status"], health["model"], health["copies"], health["beam_size"]) == ("ok", "tiny", True, 3)
        assert (await ask("/ready")).status == 200
        metrics = (await ask("/metrics")).text.splitlines()
        for line in (
            'seq2seq_requests_total{code="200"} 1',
            'seq2seq_requests_total{code="422"} 1',
            "seq2seq_requests_accepted_total 2",
            "seq2seq_clients_vanished_total 0",
            "seq2seq_lines_total 2",
            "seq2seq_batches_total 1",
            "seq2seq_waiting_lines 0",
            "seq2seq_requests_in_progress 0",
            'seq2seq_request_seconds_bucket{le="+Inf"} 2',
            "seq2seq_request_seconds_count 2",
        ):
            assert line in metrics
        described = (await ask("/openapi.json")).json()
        assert set(described["paths"]) == {"/translate", "/health", "/ready", "/metrics", "/"}
        assert (await ask("/docs")).status == 404
        service.stopping = True
        stopping = await ask("/ready")
        assert (stopping.status, stopping.headers["connection"]) == (503, "close")
        assert (await ask("/health")).json()["status"] == "stopping"

    serve(service, work)


def test_the_page_allows_only_its_script(translator: Translator) -> None:
    answer = one_answer(make_service(translator), "/")
    assert answer.text == load_page().html
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'sha256-" in policy
    assert "unsafe" not in policy
    for banned in ("innerHTML", "insertAdjacentHTML", "document.write", "http://", "https://", "eval(", " style="):
        assert banned not in answer.text
    assert answer.text.count("<script") == answer.text.count("<style") == 1


def test_no_answer_may_be_read_by_other_origins_or_kept(translator: Translator) -> None:
    for path in ("/", "/health", "/nosuch"):
        headers = one_answer(make_service(translator), path).headers
        assert not [name for name in headers if name.startswith("access-control")]
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


def test_the_log_names_no_text(translator: Translator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="seq2seq.serving")
    service = make_service(translator)

    async def work(ask: Ask) -> None:
        await ask(text="secret dog " * 20)
        await ask(text="secret", n_best=99)
        await ask("/secret")
        await ask("/health?secret")

    serve(service, work)
    assert [record.getMessage().rsplit(" ", 2)[0] for record in caplog.records if "seq2seq.serving" in record.name] == [
        "POST /translate 200",
        "POST /translate 422",
        "- - 404",
        "GET /health 200",
    ]
    assert "secret" not in caplog.text
