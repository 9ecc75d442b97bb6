"""Draw docs/road.svg, the road of a batch from a pair of texts to an update of the weights or to a score.

python scripts/docs/draw_road.py

The picture has its own background and follows the color scheme of the reader, light or dark. tests/test_docs.py checks
that the committed picture equals what this script draws, and that every file named in it exists.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "road.svg"
WIDTH, HEIGHT = 990, 458
FONTS = """\
  text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; text-anchor: middle }
  .title { font-size: 15px; font-weight: 600 }
  .line, .note { font-size: 12.5px }
  .file { font-size: 11.5px; font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
  .label { font-size: 13px; font-weight: 600; text-anchor: start }
  .box { stroke-width: 1.5 }
  .arrow { fill: none; stroke-width: 1.75 }
  .back { stroke-dasharray: 5 4 }
"""
LIGHT = {
    "page": "#ffffff",
    "box": "#f3f5f8",
    "text": "#1d2430",
    "quiet": "#55606f",
    "shared": "#4a5563",
    "train": "#b4540a",
    "search": "#1b63b5",
}
DARK = {
    "page": "#12161c",
    "box": "#1d232c",
    "text": "#eef1f5",
    "quiet": "#aab4c2",
    "shared": "#b6c0cd",
    "train": "#f0a060",
    "search": "#7db4f5",
}


@dataclass(frozen=True)
class Box:
    """A stop of the road."""

    title: str
    lines: tuple[str, ...]
    file: str  # under seq2seq/; empty for the texts themselves
    x: int
    y: int
    width: int
    height: int = 92
    branch: str = "shared"  # or train, search

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def middle(self) -> int:
        return self.y + self.height // 2

    @property
    def center(self) -> int:
        return self.x + self.width // 2


PAIR = Box("Text pair", ("A man sleeps.", "Un homme dort."), "data/sources.py", 24, 48, 162)
TOKENIZER = Box("Tokenizer", ("text to pieces,", "pieces to ids"), "text/tokenizer.py", 219, 48, 162)
BATCH = Box("Batch", ("src (B, S), tgt_in and", "tgt_out (B, T), padded"), "data/batching.py", 414, 48, 162)
ENCODER = Box("Encoder", ("reads the source", "in both directions"), "layers/encoder.py", 609, 48, 162)
MEMORY = Box("Memory", ("values, keys and mask", "of each position (B, S)"), "layers/attention.py", 804, 48, 162)
STEP = Box(
    "Decoder step",
    ("cell: previous token, state", "attention: memory → context"),
    "layers/decoder.py",
    24,
    254,
    196,
)
DISTRIBUTION = Box(
    "Distribution", ("generate from the vocabulary", "or copy from the source"), "layers/distribution.py", 252, 254, 202
)
LOSS = Box("Loss", ("negative log-likelihood", "of the known target"), "loss.py", 510, 194, 168, branch="train")
UPDATE = Box("Update", ("gradients, clipping,", "optimizer"), "training/update.py", 711, 194, 168, branch="train")
BEAM = Box("Beam search", ("keeps the K best", "hypotheses"), "search/beam.py", 510, 326, 134, branch="search")
TEXT = Box("Text", ("ids to pieces,", "pieces to text"), "translator.py", 671, 326, 134, branch="search")
METRICS = Box("Metrics", ("BLEU, chrF, TER,", "ROUGE, ..."), "metrics/scores.py", 832, 326, 134, branch="search")
BOXES = (PAIR, TOKENIZER, BATCH, ENCODER, MEMORY, STEP, DISTRIBUTION, LOSS, UPDATE, BEAM, TEXT, METRICS)


def picture() -> str:
    """The whole picture as SVG."""
    title = "The road of a batch"
    description = (
        "A text pair goes through the tokenizer, the batch, the encoder and the memory to the decoder step with "
        "attention, which gives a distribution that generates or copies. In training the loss of the known target "
        "leads to an update. In translation beam search leads to text and metrics."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{title}</title>",
            f"<desc>{description}</desc>",
            f"<style>\n{FONTS}{_colors(LIGHT)}@media (prefers-color-scheme: dark) {{\n{_colors(DARK)}}}\n</style>",
            f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="10"/>',
            *_labels(),
            *_arrows(),
            *(element for box in BOXES for element in _draw(box)),
            "</svg>\n",
        ]
    )


def _colors(palette: dict[str, str]) -> str:
    """The rules of one color scheme; plain values, since many viewers know no CSS variables."""
    rules = [
        f"  .page {{ fill: {palette['page']} }} .box {{ fill: {palette['box']} }}",
        f"  .title, .note {{ fill: {palette['text']} }} .line, .file {{ fill: {palette['quiet']} }}",
    ]
    for branch in ("shared", "train", "search"):
        color = palette[branch]
        rules.append(f"  .{branch} {{ stroke: {color} }} .head-{branch}, .label-{branch} {{ fill: {color} }}")
    return "\n".join(rules) + "\n"


def _labels() -> list[str]:
    return [
        _text("label label-shared", PAIR.x, 32, "Reading"),
        _text("label label-shared", STEP.x, STEP.y - 14, "One target position"),
        _text("label label-train", LOSS.x, LOSS.y - 12, "Training"),
        _text("label label-search", BEAM.x, BEAM.y - 12, "Translation"),
    ]


def _arrows() -> list[str]:
    row = [PAIR, TOKENIZER, BATCH, ENCODER, MEMORY]
    pairs = [*itertools.pairwise(row), (STEP, DISTRIBUTION), (LOSS, UPDATE), (BEAM, TEXT), (TEXT, METRICS)]
    arrows = [element for a, b in pairs for element in _arrow(b.branch, (a.right, a.middle), (b.x, b.middle))]
    gutter = MEMORY.bottom + 24
    down = STEP.right - 36
    arrows += _arrow("shared", (MEMORY.center, MEMORY.bottom), (MEMORY.center, gutter), (down, gutter), (down, STEP.y))
    fork = (DISTRIBUTION.right + LOSS.x) // 2
    y = DISTRIBUTION.middle
    for box in (LOSS, BEAM):
        arrows += _arrow(box.branch, (fork, y), (fork, box.middle), (box.x, box.middle))
    arrows.append(f'<polyline class="arrow shared" points="{DISTRIBUTION.right},{y} {fork},{y}"/>')
    below = BEAM.bottom + 10
    x = BEAM.x - 14
    corners = ((x, BEAM.bottom - 16), (x, below), (STEP.center, below), (STEP.center, STEP.bottom))
    arrows += _arrow("search", (BEAM.x, BEAM.bottom - 16), *corners, back=True)
    arrows.append(_text("note", (STEP.center + x) // 2, below + 18, "chosen tokens and the states of their hypotheses"))
    return arrows


def _arrow(branch: str, *points: tuple[int, int], back: bool = False) -> list[str]:
    """A line through the points with a head at the last one."""
    (x0, y0), (x, y) = points[-2:]
    dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
    base = (x - 8 * dx, y - 8 * dy)
    line = " ".join(f"{px},{py}" for px, py in [*points[:-1], base])
    head = f"{x},{y} {base[0] + 5 * dy},{base[1] + 5 * dx} {base[0] - 5 * dy},{base[1] - 5 * dx}"
    return [
        f'<polyline class="arrow {branch}{" back" if back else ""}" points="{line}"/>',
        f'<polygon class="head-{branch}" points="{head}"/>',
    ]


def _draw(box: Box) -> list[str]:
    x, y, width, height = box.x, box.y, box.width, box.height
    elements = [f'<rect class="box {box.branch}" x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>']
    elements.append(_text("title", box.center, y + 23, box.title))
    elements += [_text("line", box.center, y + 43 + 16 * row, line) for row, line in enumerate(box.lines)]
    return [*elements, _text("file", box.center, box.bottom - 10, box.file)]


def _text(kind: str, x: int, y: int, text: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(picture(), encoding="utf-8", newline="\n")
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
