"""The serve command: an HTTP server with a page."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.commands.options import (
    Device,
    DeviceOption,
    GlossaryFile,
    Keep,
    Model,
    ThreadsOption,
    at_most,
    load_translator,
    print_precision,
    with_terms,
)

if TYPE_CHECKING:
    from seq2seq.translator import Translator

log = logging.getLogger(__name__)

MAX_SERVED_BATCH = 1024
MAX_TIMEOUT = 86_400


def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines connect.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")] = 8000,
    device: DeviceOption = Device.AUTO,
    threads: ThreadsOption = 0,
    max_batch: Annotated[
        int,
        typer.Option(
            min=1,
            callback=at_most(MAX_SERVED_BATCH, "a larger batch makes every client wait"),
            help="Lines of concurrent requests that are translated at the same time.",
        ),
    ] = 32,
    timeout: Annotated[
        int,
        typer.Option(
            min=1,
            callback=at_most(MAX_TIMEOUT, "no client waits for longer than a day"),
            help="Seconds until a request is answered with status 503; a streamed list has ten times as long.",
        ),
    ] = 60,
    glossary: GlossaryFile = None,
    keep: Keep = None,
) -> None:
    """Serve a model over HTTP, with a page at /.

    POST /translate translates a text or a list of texts; /openapi.json describes it. SIGTERM answers every accepted
    request and ends. Texts are neither logged nor written to disk.
    """
    try:
        from seq2seq.serving.app import Service
        from seq2seq.serving.server import listen, serve_until_stopped
    except ImportError as error:
        raise ValueError(
            f'serve requires FastAPI and uvicorn ({error}); run pip install ".[serve]" in the checkout of seq2seq'
        ) from error

    with listen(host, port) as listening:
        translator = without_samples(load_translator(model, device, threads))
        translator = with_terms(translator, glossary, keep)
        print_precision(translator)
        _log_requests()
        service = Service(translator, name=Path(model).resolve().name, max_batch=max_batch, timeout=timeout)
        serve_until_stopped(service, listening)


def without_samples(translator: Translator) -> Translator:
    """Return the translator with beam search; warn if it was saved with sampling."""
    if not (count := translator.search_config.samples):
        return translator
    log.warning(
        "the model was saved with search.samples=%d, but serve uses beam search, because a sample depends on the number of "
        "its line",
        count,
    )
    return translator.with_search(samples=0)


def _log_requests() -> None:
    """Print one line for each request on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("seq2seq.serving")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [handler]
    # warnings about lines name their numbers, which say nothing about the lines of a client; the answers have a status
    logging.getLogger("seq2seq.data.notices").setLevel(logging.ERROR)
