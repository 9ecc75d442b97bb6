"""The page of the server: one file that loads nothing, with a Content-Security-Policy that allows only its contents."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from typing import NamedTuple


class Page(NamedTuple):
    """The page and the value of its Content-Security-Policy header."""

    html: str
    policy: str


@cache
def load_page() -> Page:
    """Read the page. Its policy names the hashes of its script and its style, so no other script can run."""
    html = resources.files("seq2seq.serving").joinpath("page.html").read_text(encoding="utf-8")
    policy = [
        "default-src 'none'",
        f"script-src {_hashes('script', html)}",
        f"style-src {_hashes('style', html)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return Page(html, "; ".join(policy))


def _hashes(tag: str, html: str) -> str:
    """Return the sources of a policy that allow the elements of one kind, which have no attributes."""
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in contents]
    return " ".join(f"'sha256-{digest}'" for digest in digests)
