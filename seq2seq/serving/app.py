"""The interface of the server: what it accepts and what it answers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request

from seq2seq.serving import limits
from seq2seq.serving.batching_queue import BatchingQueue, ModelFailedError, RequestOptions, ServedTranslation
from seq2seq.serving.gate import Gate, retry_seconds
from seq2seq.serving.measures import Measures
from seq2seq.serving.page import load_page
from seq2seq.translator import Translator
from seq2seq.version import __version__

log = logging.getLogger(__name__)

Text = Annotated[str, Field(max_length=limits.MAX_LINE)]


def _without_zero_fraction(value: Any) -> Any:
    """Convert a number such as 3.0 to an integer: JSON Schema counts it as one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WHOLE = BeforeValidator(_without_zero_fraction)  # comes last, so that the schema has the limits before it


class TranslateRequest(BaseModel):
    """A text or a list of texts, and options. Options that are not given keep the search settings of the model."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text | Annotated[list[Text], Field(max_length=limits.MAX_LINES)] = Field(
        description="A text, or a list of texts. Each is translated as a whole; a line end in it is a space."
    )
    n_best: Annotated[int, Field(ge=1, le=limits.MAX_SERVED_BEAM), _WHOLE] = Field(
        1, description="Translations per text."
    )
    beam_size: Annotated[int, Field(ge=1, le=limits.MAX_SERVED_BEAM), _WHOLE] | None = Field(
        None, description="Number of hypotheses in the beam; 1 is greedy search."
    )
    length_penalty: float | None = Field(
        None, ge=0, lt=10, allow_inf_nan=False, description="The a of score = log P / |Y|^a."
    )
    max_length_ratio: float | None = Field(
        None,
        ge=0,
        le=limits.MAX_SERVED_LENGTH_RATIO,
        allow_inf_nan=False,
        description="Maximum length of a translation, in pieces per source piece.",
    )
    min_length: Annotated[int, Field(ge=0, le=limits.MAX_SERVED_MIN_LENGTH), _WHOLE] | None = Field(
        None, description="Minimum length of a translation, in pieces."
    )
    too_long: Literal["cut", "split"] | None = Field(None, description="Cut or split texts above the model's limit.")
    no_repeat_ngram: Annotated[int, Field(ge=0, le=limits.MAX_SERVED_NGRAM), _WHOLE] | None = Field(
        None,
        description="Block n-grams of pieces that a translation already has, of this n; 0: none.",
    )
    repetition_penalty: float | None = Field(
        None,
        ge=1,
        le=limits.MAX_SERVED_REPETITION_PENALTY,
        allow_inf_nan=False,
        description="Multiply the log-probabilities of pieces that a translation already has.",
    )
    mbr: Literal["none", "chrf", "bleu"] | None = Field(
        None, description="Choose the translation with the largest mean chrF or BLEU against the others of the beam."
    )
    attention: bool = Field(
        False, description=f"Return attention weights, of at most {limits.MAX_ATTENTION} translations."
    )
    stream: bool = Field(
        False,
        description="Answer with a line of JSON for each text (application/x-ndjson) as soon as it is translated.",
    )

    def options(self) -> RequestOptions:
        """Return the options of the search."""
        return RequestOptions(**{name: getattr(self, name) for name in RequestOptions.__dataclass_fields__})


class TextResult(BaseModel):
    """The translations of one text, best first."""

    translations: list[ServedTranslation]


class TranslateAnswer(BaseModel):
    """The results of all texts, in their order."""

    model: str
    results: list[TextResult]


class Problem(BaseModel):
    """An error."""

    error: str


class Health(BaseModel):
    """The state of the server and its model."""

    status: Literal["ok", "stopping"]
    model: str
    version: str
    attention: bool = Field(description="Whether the model has attention weights.")
    copies: bool = Field(description="Whether the model can copy pieces of the source.")
    beam_size: int = Field(description="The beam size of a request without beam_size.")
    length_penalty: float = Field(description="The length penalty of a request without length_penalty.")


class Service:
    """Answers requests with a translator.

    Args:
        name: of the model, for clients.
        max_batch: lines per batch.
        timeout: seconds until a request is answered with status 503; a streamed list has ``STREAM_FACTOR`` times as long.
    """

    def __init__(self, translator: Translator, *, name: str, max_batch: int, timeout: float) -> None:
        self.translator = translator
        self.name = name
        self.timeout = timeout
        self.measures = Measures()
        self.queue = BatchingQueue(translator, max_batch=max_batch, measures=self.measures)
        self.stopping = False  # set by the server when it is told to end

    async def translate(self, request: TranslateRequest) -> Response:
        """Translate a text or a list of texts."""
        texts = [request.text] if isinstance(request.text, str) else request.text
        options = request.options()
        if request.attention and len(texts) * request.n_best > limits.MAX_ATTENTION:
            raise HTTPException(
                422,
                f"attention is given for at most {limits.MAX_ATTENTION} translations (texts * n_best), but "
                f"{len(texts) * request.n_best} are asked for; send fewer texts, or remove attention",
            )
        try:
            options.translator(self.translator)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        results = self._results(texts, options)
        if request.stream:
            first = await self._timed(anext(results, []))  # so that an early error still has its status code
            return StreamingResponse(_json_lines(first, results), media_type="application/x-ndjson")
        found = await self._timed(_gather(results))
        return JSONResponse({"model": self.name, "results": [_plain(best) for best in found]})

    async def _results(
        self, texts: Sequence[str], options: RequestOptions
    ) -> AsyncIterator[list[list[ServedTranslation]]]:
        """Translate batch after batch, so that a long list does not keep others waiting."""
        size = self.queue.max_batch
        for first in range(0, len(texts), size):
            yield await self.queue.translate(texts[first : first + size], options)

    async def _timed(self, answer: Any) -> Any:
        try:
            return await asyncio.wait_for(answer, self.timeout)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            raise HTTPException(
                503,
                f"the answer took longer than {self.timeout:g} seconds; send fewer texts, or a list with stream",
                headers={"Retry-After": str(self.retry_after())},
            ) from None
        except ModelFailedError:
            raise HTTPException(500, "the model failed on this request; the log of the server says where") from None

    def retry_after(self) -> int:
        """Estimate after how many seconds the queue is empty, for a client that is refused."""
        return retry_seconds(self.measures.seconds_for(self.queue.waiting))

    async def health(self) -> Health:
        """Report that the server runs, and describe the model."""
        search = self.translator.search_config
        return Health(
            status="stopping" if self.stopping else "ok",
            model=self.name,
            version=__version__,
            attention=self.translator.model.has_attention,
            copies=self.translator.model.copies,
            beam_size=search.beam_size,
            length_penalty=search.length_penalty,
        )

    async def ready(self, response: Response) -> Health:
        """Report whether new requests are welcome: status 503 while the server ends."""
        if self.stopping:
            response.status_code = 503
        return await self.health()

    async def metrics(self) -> Response:
        """Return counts and times in the text format of Prometheus."""
        return PlainTextResponse(
            self.measures.text(waiting=self.queue.waiting), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def page(self) -> Response:
        """Return the page."""
        html, policy = load_page()
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})


async def _gather(results: AsyncIterator[list[list[ServedTranslation]]]) -> list[list[ServedTranslation]]:
    return [best async for batch in results for best in batch]


def _plain(best: Sequence[ServedTranslation]) -> dict[str, Any]:
    return {"translations": [translation.as_dict() for translation in best]}


async def _json_lines(
    first: list[list[ServedTranslation]], later: AsyncIterator[list[list[ServedTranslation]]]
) -> AsyncIterator[str]:
    """Yield a line of JSON for each text. If the model fails, the last line is an error."""
    try:
        for best in first:
            yield json.dumps(_plain(best), ensure_ascii=False) + "\n"
        async for batch in later:
            for best in batch:
                yield json.dumps(_plain(best), ensure_ascii=False) + "\n"
    except ModelFailedError:
        yield json.dumps({"error": "the model failed on this list; the log of the server says where"}) + "\n"


async def _explain_invalid(request: Request, error: Exception) -> Response:
    """Answer an invalid request with one sentence, which does not repeat the request."""
    assert isinstance(error, RequestValidationError)
    reasons: dict[str, str] = {}
    for each in error.errors():
        place = [str(part) for part in each["loc"][1:2]] if each["type"] != "json_invalid" else []
        reasons.setdefault(" ".join(["body", *place]), str(each["msg"]).lower())
    shown = "; ".join(f"{place}: {reason}" for place, reason in list(reasons.items())[:3])
    return JSONResponse({"error": f"the request is not valid: {shown}"}, status_code=422)


async def _explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": str(error.detail)}, status_code=error.status_code, headers=error.headers)


async def _explain_failure(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server failed on this request; its log says where"}, status_code=500)


def make_app(service: Service, *, max_requests: int = limits.MAX_REQUESTS) -> Gate:
    """Make the ASGI app of a service.

    Args:
        max_requests: requests to translate at the same time; more are answered with status 429.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        measures = service.measures
        log.info(
            "stopped: %d requests to translate accepted, %d answered, %d clients left before their answer",
            measures.accepted,
            measures.finished - measures.vanished,
            measures.vanished,
        )

    app = FastAPI(
        title="seq2seq",
        description=f"Translates texts with the model {service.name}.",
        version=__version__,
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    problems: dict[int | str, dict[str, Any]] = {
        400: {"model": Problem, "description": "The body cannot be read."},
        408: {"model": Problem, "description": "The request took too long to arrive."},
        413: {"model": Problem, "description": "The request is too large."},
        422: {"model": Problem, "description": "The request is not valid."},
        429: {"model": Problem, "description": "Too many requests; Retry-After says when to ask again."},
        500: {"model": Problem, "description": "The model failed."},
        503: {"model": Problem, "description": "The answer took too long."},
    }
    stream = {"application/x-ndjson": {"schema": {"type": "string"}}}
    ok: dict[int | str, dict[str, Any]] = {200: {"model": TranslateAnswer, "content": stream}}
    app.post("/translate", responses=ok | problems)(service.translate)
    app.get("/health")(service.health)
    app.get("/ready", responses={503: {"model": Health, "description": "The server ends."}})(service.ready)
    app.get("/metrics", response_class=PlainTextResponse)(service.metrics)
    app.get("/", response_class=HTMLResponse)(service.page)
    app.add_exception_handler(RequestValidationError, _explain_invalid)
    app.add_exception_handler(StarletteHTTPException, _explain)
    app.add_exception_handler(Exception, _explain_failure)
    return Gate(
        app,
        service.measures,
        seconds=limits.STREAM_FACTOR * service.timeout,
        max_requests=max_requests,
        retry_after=service.retry_after,
        stopping=lambda: service.stopping,
    )
