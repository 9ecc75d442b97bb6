"""Pictures: of a translation (attention weights, copied pieces, p_gen and coverage), and of curves in panels.

The attention is drawn as a heat map as in Bahdanau et al. 2015, fig. 3; p_gen and coverage are those of See et al. 2017.
A picture is drawn from plain values, without a model. Requires matplotlib (the extra ``plot``), but neither pyplot nor a
display.
"""

from __future__ import annotations

import io
import logging
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
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
from matplotlib.ticker import MaxNLocator

log = logging.getLogger(__name__)

PICTURE_FORMATS = ("png", "svg", "pdf")
BASIC_FONT = "DejaVu Sans"  # included in matplotlib
FONT_FILES = (  # starts of the file names of the fonts that are tried first for characters that the basic font lacks
    *("notosanscjk", "sourcehansans", "notosanssc", "notosans", "wqy", "ipa", "takao", "vlgothic", "droidsansfallback"),
    *("uming", "ukai", "pingfang", "hiragino", "stheiti", "msyh", "simhei", "simsun", "yugoth", "meiryo", "malgun"),
    *("nanum", "unifont"),
)
NO_FONTS = ("lastresort", "adobeblank", "adobenotdef")  # these fonts map every character to an empty glyph
STYLES = re.compile("bold|black|heavy|thin|light|medium|italic|oblique|condensed|mono|serif")

CELL_SIZE = 0.24  # inches per piece, on both axes
STRIP_SIZE = 0.8  # inches, the height of the coverage bars and the width of the p_gen bars
GAP = 0.12  # inches
FONT_SIZE = 8.0  # points; a CJK character is as wide as this
TITLE_SIZE = 9.0
LONGEST_LABEL = 28  # columns per piece; a CJK character takes two
LONGEST_TITLE = 72  # columns per title line; up to twice as many if the picture is wide
DPI = 150.0
MOST_PIXELS = 16e6  # of a PNG; limits the memory of the picture of a long document
COPIED = "#d62728"
PANEL_SIZE = (4.2, 3.0)  # inches, width and height of a panel of curves


@dataclass(frozen=True)
class Picture:
    """The values to draw. T and S are the numbers of target and source pieces shown, with or without eos."""

    src_pieces: Sequence[str]  # (S,)
    tgt_pieces: Sequence[str]  # (T,)
    weights: Sequence[Sequence[float]]  # (T, S), attention weights
    copied_from: Sequence[int | None] = ()  # (T,), index of the copied source piece; (): nothing copied
    p_gen: Sequence[float] = ()  # (T,), probability of generating; (): not drawn
    title: Sequence[str] = ()  # lines

    def __post_init__(self) -> None:
        count = len(self.tgt_pieces)
        assert len(self.weights) == count, "weights must have a row for every target piece"
        assert all(len(row) == len(self.src_pieces) for row in self.weights), (
            "weights must have a column for every source piece"
        )
        assert {len(self.copied_from), len(self.p_gen)} <= {0, count}, (
            "copied_from and p_gen must have a value for every target piece, or be empty"
        )


class Panel(NamedTuple):
    """A panel of curves."""

    title: str
    x_label: str
    y_label: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]  # label: positions on the x axis, values
    logarithmic: bool = False  # the axis of the values; values of 0, which it does not have, are left out


class Fonts(NamedTuple):
    """The fonts for a text."""

    families: list[str]  # in the order in which they are searched for a character
    missing: str  # the characters that no font has, each once, sorted


def check_format(path: Path) -> str:
    """Return the format of a file name.

    Raises:
        ValueError: the name does not end in one of ``PICTURE_FORMATS``.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in PICTURE_FORMATS:
        raise ValueError(f"a picture's file must end in .png, .svg or .pdf, but is {path}")
    return kind


def render(picture: Picture, kind: str) -> bytes:
    """Draw a picture and return the bytes of the file.

    An SVG holds its text as text. Characters that no installed font has are reported in one warning.

    Args:
        kind: one of ``PICTURE_FORMATS``.
    """
    shown = _printable_picture(picture)
    fonts = find_fonts("".join([*shown.src_pieces, *shown.tgt_pieces, *shown.title]))
    missing = fonts.missing
    if kind != "svg":  # an SVG is shown with the fonts of the viewer
        shown, missing = _with_compatible_forms(shown, fonts)
    if missing:
        _warn(missing, kind)
    return _file_bytes(lambda: draw(shown, fonts.families), kind)


def render_panels(panels: Sequence[Panel], kind: str) -> bytes:
    """Draw curves in panels, see ``draw_panels``, and return the bytes of the file; ``kind`` is that of ``render``."""
    return _file_bytes(lambda: draw_panels(panels), kind)


def draw_panels(panels: Sequence[Panel]) -> Figure:
    """Draw panels in two columns as a matplotlib figure; a label has the same colour in every panel."""
    labels = list(dict.fromkeys(label for panel in panels for label in panel.curves))
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(PANEL_SIZE[0] * columns, PANEL_SIZE[1] * rows), dpi=DPI, layout="constrained")
    for number, panel in enumerate(panels):
        _draw_panel(figure.add_subplot(rows, columns, number + 1), panel, labels)
    handles = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    legend = figure.legend(
        [handles[label] for label in labels],
        [_trimmed(_printable(label), LONGEST_TITLE) for label in labels],
        loc="outside lower left",
        fontsize=FONT_SIZE,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _draw_panel(axes: Axes, panel: Panel, labels: Sequence[str]) -> None:
    """Draw one panel; the place of a label in ``labels`` is its colour."""
    if panel.logarithmic:
        axes.set_yscale("log", nonpositive="mask")
    colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for label, (steps, values) in panel.curves.items():
        place = labels.index(label)
        style = ("-", "--", ":", "-.")[place // len(colours) % 4]
        mark = "." if len(values) == 1 else ""  # a line through one point would be invisible
        axes.plot(steps, values, style, marker=mark, color=colours[place % len(colours)], label=label, linewidth=1.2)
    axes.set_title(_printable(panel.title), loc="left", fontsize=TITLE_SIZE, parse_math=False)
    axes.set_xlabel(panel.x_label, fontsize=FONT_SIZE)
    axes.set_ylabel(panel.y_label, fontsize=FONT_SIZE)
    axes.tick_params(labelsize=FONT_SIZE - 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.9", linewidth=0.6)


def _file_bytes(make_figure: Callable[[], Figure], kind: str) -> bytes:
    """Return the file of a figure, which depends on no setting of the user."""
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)  # already reported
        matplotlib.rcdefaults()  # ignore the settings of the user
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "seq2seq"})
        figure = make_figure()
        stream = io.BytesIO()
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(
            kind
        )  # so equal pictures have equal bytes
        figure.savefig(stream, format=kind, metadata=metadata, bbox_inches="tight", pad_inches=0.1)
    return stream.getvalue()


def draw(picture: Picture, families: Sequence[str] = (BASIC_FONT,)) -> Figure:
    """Draw a picture as a matplotlib figure.

    The parts of an SVG have ids: source-0, target-0, copied-0-0 (target, source), coverage-0, p_gen-0.
    """
    weights = np.array(picture.weights, dtype=float)  # (T, S)
    height, width = (CELL_SIZE * count for count in weights.shape)
    whole = (width + (STRIP_SIZE + GAP if len(picture.p_gen) else 0) + 4 * GAP, height + GAP + STRIP_SIZE)
    area, longest = whole[0] * whole[1], max(whole)
    figure = Figure(figsize=whole, dpi=min(DPI, math.sqrt(MOST_PIXELS / area), 30_000 / longest))

    def axes(left: float, bottom: float, wide: float, high: float) -> Axes:  # in inches
        return figure.add_axes((left / whole[0], bottom / whole[1], wide / whole[0], high / whole[1]))

    font: dict[str, Any] = {"fontfamily": list(families), "parse_math": False}
    heat = axes(0, STRIP_SIZE + GAP, width, height)
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

    _coverage(axes(0, 0, width, STRIP_SIZE), weights.sum(axis=0))
    right = width + GAP
    if len(picture.p_gen):
        _p_gen(axes(right, STRIP_SIZE + GAP, STRIP_SIZE, height), picture.p_gen)
        right += STRIP_SIZE + GAP
    bar = figure.colorbar(cells, cax=axes(right, 0, GAP, min(whole[1], 2.0)))
    bar.ax.tick_params(labelsize=FONT_SIZE - 1)
    bar.ax.set_ylabel("attention", fontsize=FONT_SIZE)
    return figure


def find_fonts(text: str) -> Fonts:
    """Find fonts that together have every character of a text: the basic font, then installed ones as needed."""
    families = [BASIC_FONT]
    missing = {char for char in text if not _invisible(char)}
    missing -= _characters(font_manager.findfont(BASIC_FONT))
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted(font_files(), key=_preference) if missing else []:
        found = missing & _characters(path)
        if found:
            if path not in known:  # installed after matplotlib listed the fonts
                font_manager.fontManager.addfont(path)
            families.append(font_manager.ttfFontProperty(FT2Font(path)).name)
            missing -= found
        if not missing:
            break
    return Fonts(families, "".join(sorted(missing)))


def font_files() -> list[str]:
    """List the installed font files."""
    return font_manager.findSystemFonts()


def _label(axes: Axes, picture: Picture, font: dict[str, Any]) -> None:
    """Label both axes with the pieces."""
    counts = len(picture.src_pieces), len(picture.tgt_pieces)
    axes.xaxis.tick_top()
    axes.set_xticks(range(counts[0]), [_trimmed(piece, LONGEST_LABEL) for piece in picture.src_pieces])
    axes.set_yticks(range(counts[1]), [_trimmed(piece, LONGEST_LABEL) for piece in picture.tgt_pieces])
    all_narrow = all(_columns(piece) <= 2 for piece in picture.src_pieces)
    for number, label in enumerate(axes.get_xticklabels()):
        upright = all_narrow or _is_upright(picture.src_pieces[number])
        label.set(rotation=0 if upright else 90, gid=f"source-{number}")
    for number, label in enumerate(axes.get_yticklabels()):
        label.set_gid(f"target-{number}")
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(fontsize=FONT_SIZE, **font)
    axes.tick_params(length=0)


def _coverage(axes: Axes, coverage: np.ndarray) -> None:
    """Draw a bar under every source piece: the sum of its attention weights over the target; (S,)."""
    bars = axes.bar(range(len(coverage)), coverage, width=0.8, color="#4c78a8")
    for number, bar in enumerate(bars):
        bar.set_gid(f"coverage-{number}")
    axes.axhline(1, color="0.5", linewidth=0.6, linestyle=":")  # a sum of 1 means: attended to once
    axes.set(xlim=(-0.5, len(coverage) - 0.5), ylim=(0, 1.05 * max(1.0, float(coverage.max()))), xticks=[])
    axes.locator_params(axis="y", nbins=3)
    _strip(axes, "coverage", axes.yaxis.label)


def _p_gen(axes: Axes, p_gen: Sequence[float]) -> None:
    """Draw a bar next to every target piece: the probability of generating it; (T,)."""
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


def _printable_picture(picture: Picture) -> Picture:
    """Replace characters that cannot be drawn, and put every title on one line."""
    return replace(
        picture,
        src_pieces=[_printable(piece) for piece in picture.src_pieces],
        tgt_pieces=[_printable(piece) for piece in picture.tgt_pieces],
        title=[_printable(" ".join(line.split())) for line in picture.title],
    )


def _printable(text: str) -> str:
    """Replace control characters, and characters that XML forbids, with their escapes."""
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Cs") or char in "\ufffe\uffff"
        else char
        for char in text
    )


def _with_compatible_forms(picture: Picture, fonts: Fonts) -> tuple[Picture, str]:
    """Replace characters that no font has with their compatible (NFKC) forms if a font has those.

    The joiner of the word tokenizer is such a character: the half-width form of one that every font has.

    Returns:
        The changed picture, and the characters that are still missing.
    """
    table = {ord(char): unicodedata.normalize("NFKC", char) for char in fonts.missing}
    unavailable = set(find_fonts("".join(table.values())).missing)
    table = {number: other for number, other in table.items() if not unavailable & set(other)}
    changed = replace(
        picture,
        src_pieces=[piece.translate(table) for piece in picture.src_pieces],
        tgt_pieces=[piece.translate(table) for piece in picture.tgt_pieces],
        title=[line.translate(table) for line in picture.title],
    )
    return changed, "".join(char for char in fonts.missing if ord(char) not in table)


def _warn(missing: str, kind: str) -> None:
    some = " ".join(missing[:20]) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
    effect = (
        "the SVG holds the text, but shows it only where such a font is installed"
        if kind == "svg"
        else "they are drawn as boxes"
    )
    log.warning(
        "no installed font has %s; %s; install one, on Debian fonts-noto-cjk (Chinese, Japanese, Korean) or fonts-noto-core",
        some,
        effect,
    )


def _characters(path: str) -> set[str]:
    """Return the characters of a font file; none if it cannot be read or scaled."""
    if _plain_name(path).startswith(NO_FONTS):
        return set()
    try:
        font = FT2Font(path)
        font_manager.ttfFontProperty(font)
        return {chr(code) for code in font.get_charmap()}
    except (OSError, RuntimeError, NotImplementedError, KeyError, ValueError):
        return set()


def _preference(path: str) -> tuple[int, int, str]:
    """Sort key of font files: preferred fonts first, and regular styles before others."""
    name = _plain_name(path)
    ranks = [rank for rank, start in enumerate(FONT_FILES) if name.startswith(start)]
    return min(ranks, default=len(FONT_FILES)), len(STYLES.findall(name)), name


def _plain_name(path: str) -> str:
    """Return the name of a font file in lower case, letters and digits only."""
    return "".join(char for char in Path(path).stem.lower() if char.isalnum())


def _invisible(char: str) -> bool:
    """Return whether a character has no glyph: spaces, joiners, variation selectors."""
    return unicodedata.category(char) in ("Zs", "Zl", "Zp", "Cf") or "\ufe00" <= char <= "\ufe0f"


def _columns(text: str) -> int:
    """Return the width of a text in columns; a CJK character takes two."""
    return sum(_width(char) for char in text)


def _width(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in "WF" else 0 if unicodedata.combining(char) else 1


def _is_upright(piece: str) -> bool:
    """Return whether a label is upright even if others are rotated: one character, or two CJK characters."""
    return len(piece) == 1 or (len(piece) == 2 and _columns(piece) == 4)


def _trimmed(text: str, columns: int) -> str:
    """Cut a text to a number of columns."""
    if _columns(text) <= columns:
        return text
    total, kept = 1, ""
    for char in text:
        total += _width(char)
        if total > columns:
            break
        kept += char
    return kept + "…"
