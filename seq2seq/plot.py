"""Pictures of a translation: where the model looked, what it copied, how much it generated, what it covered.

Drawn from plain values; knows no model. Needs matplotlib, the extra ``plot``; draws without pyplot and display. A heat
map of the attention as in Bahdanau et al. 2015, fig. 3; p_gen and coverage as in See et al. 2017.
"""

from __future__ import annotations

import io
import logging
import math
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle
from matplotlib.text import Text

log = logging.getLogger(__name__)

FORMATS = ("png", "svg", "pdf")
BASIC_FONT = "DejaVu Sans"  # comes with matplotlib
FONT_FILES = (  # preferred for what the basic font lacks, by how their files' names start; then any other
    *("notosanscjk", "sourcehansans", "notosanssc", "notosans", "wqy", "ipa", "takao", "vlgothic", "droidsansfallback"),
    *("uming", "ukai", "pingfang", "hiragino", "stheiti", "msyh", "simhei", "simsun", "yugoth", "meiryo", "malgun"),
    *("nanum", "unifont"),
)
NO_FONTS = ("lastresort", "adobeblank", "adobenotdef")  # they have every character and draw none
STYLES = re.compile("bold|black|heavy|thin|light|medium|italic|oblique|condensed|mono|serif")

CELL = 0.24  # inches, of a piece on either axis
STRIP = 0.8  # inches, of p_gen and coverage
GAP = 0.12  # inches
FONT_SIZE = 8.0  # points; a CJK character is as wide
TITLE_SIZE = 9.0
LONGEST_LABEL = 28  # columns of a piece
LONGEST_TITLE = 72  # columns of a title line; up to twice as many where the picture is wider
DPI = 150.0
MOST_PIXELS = 16e6  # of a whole PNG: a document must not fill the memory
COPIED = "#d62728"


@dataclass(frozen=True)
class Picture:
    """What is drawn. T and S count the pieces that are shown, whether or not the ends of the sentences are among them."""

    src_pieces: Sequence[str]  # (S,)
    tgt_pieces: Sequence[str]  # (T,)
    weights: Sequence[Sequence[float]]  # (T, S), where the model looked
    copied_from: Sequence[int | None] = ()  # (T,), the source piece that a target piece was copied from; () is nowhere
    p_gen: Sequence[float] = ()  # (T,), probability of generating; () for a model that does not copy
    title: Sequence[str] = ()  # lines

    def __post_init__(self) -> None:
        count = len(self.tgt_pieces)
        assert len(self.weights) == count, "a row of weights for every target piece"
        assert all(len(row) == len(self.src_pieces) for row in self.weights), "a weight for every source piece"
        assert {len(self.copied_from), len(self.p_gen)} <= {0, count}, "one for every target piece, or none"


class Fonts(NamedTuple):
    """Which fonts to take."""

    families: list[str]  # in the order in which they are asked for a character
    missing: str  # the characters that none has, each once, sorted


def check_format(path: Path) -> str:
    """The format that a file's ending means.

    Raises:
        ValueError: none of ``FORMATS``.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ValueError(f"a picture's file must end in .png, .svg or .pdf, but is {path}")
    return kind


def render(picture: Picture, kind: str) -> bytes:
    """Draw a picture as one of ``FORMATS``; an SVG holds its text as text.

    Characters that no font here has are told in one warning.
    """
    shown = _shown(picture)
    fonts = find_fonts("".join([*shown.src_pieces, *shown.tgt_pieces, *shown.title]))
    missing = fonts.missing
    if kind != "svg":  # a viewer of an SVG has fonts of its own
        shown, missing = _spelled_otherwise(shown, fonts)
    if missing:
        _warn(missing, kind)
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)  # told already
        matplotlib.rcdefaults()  # whatever the user's own settings are
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "seq2seq"})
        figure = draw(shown, fonts.families)
        stream = io.BytesIO()
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)  # the same picture, the same bytes
        figure.savefig(stream, format=kind, metadata=metadata, bbox_inches="tight", pad_inches=0.1)
    return stream.getvalue()


def draw(picture: Picture, families: Sequence[str] = (BASIC_FONT,)) -> Figure:
    """Draw a picture. In an SVG its parts have ids: source-0, target-0, copied-0-0 (target, source), coverage-0, p_gen-0."""
    weights = np.array(picture.weights, dtype=float)  # (T, S)
    height, width = (CELL * count for count in weights.shape)
    whole = (width + (STRIP + GAP if len(picture.p_gen) else 0) + 4 * GAP, height + GAP + STRIP)
    area, longest = whole[0] * whole[1], max(whole)
    figure = Figure(figsize=whole, dpi=min(DPI, math.sqrt(MOST_PIXELS / area), 30_000 / longest))

    def axes(left: float, bottom: float, wide: float, high: float) -> Axes:  # in inches
        return figure.add_axes((left / whole[0], bottom / whole[1], wide / whole[0], high / whole[1]))

    font: dict[str, Any] = {"fontfamily": list(families), "parse_math": False}
    heat = axes(0, STRIP + GAP, width, height)
    places = [np.arange(count + 1) - 0.5 for count in weights.shape]
    cells = heat.pcolormesh(places[1], places[0], weights, cmap="Blues", edgecolor="0.85", linewidth=0.4)
    cells.set_clim(0, max(float(weights.max()), 1e-6))
    heat.invert_yaxis()
    _label(heat, picture, font)
    for target, source in enumerate(picture.copied_from):
        if source is not None:
            frame = Rectangle((source - 0.5, target - 0.5), 1, 1, fill=False, edgecolor=COPIED, linewidth=1.5, zorder=4)
            frame.set_gid(f"copied-{target}-{source}")
            heat.add_patch(frame).set_clip_on(False)
    longest_title = min(max(LONGEST_TITLE, int(14 * whole[0])), 2 * LONGEST_TITLE)
    title = [_trimmed(line, longest_title) for line in picture.title]
    heat.set_title("\n".join(title), loc="left", fontsize=TITLE_SIZE, pad=10, linespacing=1.4, **font)

    _coverage(axes(0, 0, width, STRIP), weights.sum(axis=0))
    right = width + GAP
    if len(picture.p_gen):
        _p_gen(axes(right, STRIP + GAP, STRIP, height), picture.p_gen)
        right += STRIP + GAP
    bar = figure.colorbar(cells, cax=axes(right, 0, GAP, min(whole[1], 2.0)))
    bar.ax.tick_params(labelsize=FONT_SIZE - 1)
    bar.ax.set_ylabel("attention", fontsize=FONT_SIZE)
    return figure


def find_fonts(text: str) -> Fonts:
    """The basic font, and as many of the installed ones as it takes to have every character of a text."""
    families = [BASIC_FONT]
    missing = {char for char in text if not _invisible(char)}
    missing -= _characters(font_manager.findfont(BASIC_FONT))
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted(font_files(), key=_preference) if missing else []:
        found = missing & _characters(path)
        if found:
            if path not in known:  # installed after matplotlib made its list
                font_manager.fontManager.addfont(path)
            families.append(font_manager.ttfFontProperty(FT2Font(path)).name)
            missing -= found
        if not missing:
            break
    return Fonts(families, "".join(sorted(missing)))


def font_files() -> list[str]:
    """The font files of this machine."""
    return font_manager.findSystemFonts()


def _label(axes: Axes, picture: Picture, font: dict[str, Any]) -> None:
    """Pieces on both axes, each beside its cells."""
    counts = len(picture.src_pieces), len(picture.tgt_pieces)
    axes.xaxis.tick_top()
    axes.set_xticks(range(counts[0]), [_trimmed(piece, LONGEST_LABEL) for piece in picture.src_pieces])
    axes.set_yticks(range(counts[1]), [_trimmed(piece, LONGEST_LABEL) for piece in picture.tgt_pieces])
    all_narrow = all(_columns(piece) <= 2 for piece in picture.src_pieces)
    for number, label in enumerate(axes.get_xticklabels()):
        upright = all_narrow or _stands(picture.src_pieces[number])
        label.set(rotation=0 if upright else 90, gid=f"source-{number}")
    for number, label in enumerate(axes.get_yticklabels()):
        label.set_gid(f"target-{number}")
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(fontsize=FONT_SIZE, **font)
    axes.tick_params(length=0)


def _coverage(axes: Axes, coverage: np.ndarray) -> None:
    """A bar under every source piece: how much it was looked at by all of the target; (S,)."""
    bars = axes.bar(range(len(coverage)), coverage, width=0.8, color="#4c78a8")
    for number, bar in enumerate(bars):
        bar.set_gid(f"coverage-{number}")
    axes.axhline(1, color="0.5", linewidth=0.6, linestyle=":")  # looked at once in all
    axes.set(xlim=(-0.5, len(coverage) - 0.5), ylim=(0, 1.05 * max(1.0, float(coverage.max()))), xticks=[])
    axes.locator_params(axis="y", nbins=3)
    _strip(axes, "coverage", axes.yaxis.label)


def _p_gen(axes: Axes, p_gen: Sequence[float]) -> None:
    """A bar beside every target piece: the probability of generating it; (T,)."""
    bars = axes.barh(range(len(p_gen)), p_gen, height=0.8, color="#72b7b2")
    for number, bar in enumerate(bars):
        bar.set_gid(f"p_gen-{number}")
    axes.set(ylim=(len(p_gen) - 0.5, -0.5), xlim=(0, 1), yticks=[], xticks=[0, 0.5, 1], xticklabels=["0", "½", "1"])
    axes.xaxis.set_label_position("top")
    _strip(axes, "p_gen", axes.xaxis.label)


def _strip(axes: Axes, name: str, label: Text) -> None:
    axes.set_gid(name)
    label.set(text=name, fontsize=FONT_SIZE)
    axes.tick_params(labelsize=FONT_SIZE - 1, length=2)
    axes.spines[["top", "right"]].set_visible(False)


def _shown(picture: Picture) -> Picture:
    """With what can't be drawn spelled out, and titles of one line each."""
    return replace(
        picture,
        src_pieces=[_printable(piece) for piece in picture.src_pieces],
        tgt_pieces=[_printable(piece) for piece in picture.tgt_pieces],
        title=[_printable(" ".join(line.split())) for line in picture.title],
    )


def _printable(text: str) -> str:
    """Control characters and what XML forbids as their escapes."""
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Cs") or char in "\ufffe\uffff"
        else char
        for char in text
    )


def _spelled_otherwise(picture: Picture, fonts: Fonts) -> tuple[Picture, str]:
    """Characters that no font has by their compatible forms, where a font has those; and the rest of the missing.

    The word tokenizer's joiner is such a character: half as wide as one that every font has.
    """
    table = {ord(char): unicodedata.normalize("NFKC", char) for char in fonts.missing}
    lost = set(find_fonts("".join(table.values())).missing)
    table = {number: other for number, other in table.items() if not lost & set(other)}
    changed = replace(
        picture,
        src_pieces=[piece.translate(table) for piece in picture.src_pieces],
        tgt_pieces=[piece.translate(table) for piece in picture.tgt_pieces],
        title=[line.translate(table) for line in picture.title],
    )
    return changed, "".join(char for char in fonts.missing if ord(char) not in table)


def _warn(missing: str, kind: str) -> None:
    some = " ".join(missing[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
    effect = "the text is in the SVG, but shows only where such a font is" if kind == "svg" else "they show as boxes"
    log.warning(
        "no font here has %s; %s; install one, on Debian fonts-noto-cjk (Chinese, Japanese, Korean) or fonts-noto-core",
        some,
        effect,
    )


def _characters(path: str) -> set[str]:
    """What a font file can draw; nothing if it can't be read or scaled."""
    if _plain_name(path).startswith(NO_FONTS):
        return set()
    try:
        font = FT2Font(path)
        font_manager.ttfFontProperty(font)
        return {chr(code) for code in font.get_charmap()}
    except (OSError, RuntimeError, NotImplementedError, KeyError, ValueError):
        return set()


def _preference(path: str) -> tuple[int, int, str]:
    """A key: the preferred fonts first, of these the plain ones."""
    name = _plain_name(path)
    ranks = [rank for rank, start in enumerate(FONT_FILES) if name.startswith(start)]
    return min(ranks, default=len(FONT_FILES)), len(STYLES.findall(name)), name


def _plain_name(path: str) -> str:
    """Of a font's file: lower case, letters and digits alone."""
    return "".join(char for char in Path(path).stem.lower() if char.isalnum())


def _invisible(char: str) -> bool:
    """Whether it asks for no glyph: spaces, joiners, variation selectors."""
    return unicodedata.category(char) in ("Zs", "Zl", "Zp", "Cf") or "\ufe00" <= char <= "\ufe0f"


def _columns(text: str) -> int:
    """How wide a text is, in halves of a CJK character."""
    return sum(_width(char) for char in text)


def _width(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in "WF" else 0 if unicodedata.combining(char) else 1


def _stands(piece: str) -> bool:
    """Whether a label stays upright between others that are turned: one character, or two of CJK."""
    return len(piece) == 1 or (len(piece) == 2 and _columns(piece) == 4)


def _trimmed(text: str, columns: int) -> str:
    """A text of at most so many columns."""
    if _columns(text) <= columns:
        return text
    total, kept = 1, ""
    for char in text:
        total += _width(char)
        if total > columns:
            break
        kept += char
    return kept + "…"
