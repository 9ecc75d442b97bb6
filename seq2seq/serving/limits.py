"""Limits of a request, so that no client can use up the memory or the time of the server."""

from __future__ import annotations

MAX_BODY = 2**20  # bytes of a request
MAX_LINES = 10_000  # texts of a request
MAX_LINE = 20_000  # characters of a text
MAX_SERVED_BEAM = 20
MAX_SERVED_LENGTH_RATIO = 10.0  # pieces of a translation per source piece
MAX_SERVED_MIN_LENGTH = 1000  # pieces
MAX_SERVED_NGRAM = 1000  # pieces of an n-gram that must not repeat
MAX_SERVED_REPETITION_PENALTY = 100.0
MAX_ATTENTION = 100  # translations of a request with their attention weights
MAX_REQUESTS = 128  # requests to translate that are read, wait or are answered at the same time; more get status 429
MAX_CONNECTIONS = 512  # open connections; more get status 503

BODY_SECONDS = 30.0  # until the whole request must have arrived
STALLED_SECONDS = 30.0  # until a client that does not read its answer is disconnected (Linux)
STREAM_FACTOR = 10  # a streamed list may take this many times as long as another answer
