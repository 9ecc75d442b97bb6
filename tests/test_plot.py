"""Pictures of a translation: their contents, fonts, the command, and every error."""

from __future__ import annotations

import dataclasses
import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text
from typer.testing import CliRunner, Result
from untrained import spread

from seq2seq import model_dir, plot
from seq2seq.commands.app import app
from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.model_dir import Settings, Tokenizers
from seq2seq.plot import Picture, check_format, draw, find_fonts, render
from seq2seq.text.factory import train_tokenizer
from seq2seq.translator import Translator

TEXT = [
    "a man sees the old dog .",
    "the dog sees a small man , too .",
    "two men sleep ; one dog runs away !",
    "狗 看见 人 。",
]
LINE = "a man sees Xanthippe , too ."
HEADS = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}
CJK = "狗看见人。"

WEIGHTS = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]
PICTURE = Picture(["der", "Hund", "</s>"], ["dog", "</s>"], WEIGHTS, [1, None], [0.25, 0.75], ["source: der Hund", "b"])


def save_model(folder: Path, **changes: Any) -> str:
    """Save an untrained model with large weights; with a pointer, it copies some pieces, and others almost."""
    tokenizer = TokenizerConfig(type="word", vocab_size=40)
    tokenizers = Tokenizers(*[train_tokenizer(TEXT, tokenizer)] * 2)
    search = SearchConfig(
        beam_size=3, max_length_ratio=1.0, max_length_extra=2, coverage_penalty=0.0 if "attention" in changes else 0.3
    )
    settings = Settings(ModelConfig(cell="gru", embedding_size=8, hidden_size=8, **changes), tokenizer, search, 12)
    torch.manual_seed(13)
    model_dir.save_settings(folder, settings, tokenizers)
    model = model_dir.build_model(settings, tokenizers)
    spread(model, 3.0)
    model_dir.save_weights(folder, model)
    return str(folder)


@pytest.fixture(scope="module")
def copying(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("plot") / "copying", copy="pointer")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("plot") / "plain")


@pytest.fixture(autouse=True)
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the basic font only, whatever is installed."""
    monkeypatch.setattr(plot, "font_files", list)


def make_font(path: Path, family: str, characters: str) -> str:
    """Make a font that draws every character as a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 800), (800, 800), (800, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = [".notdef", *(f"uni{ord(char):04X}" for char in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(char): name for char, name in zip(characters, names[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular", "fullName": family, "psName": family})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def parts(figure: Figure, start: str) -> dict[str, Any]:
    """Return the parts of a picture whose ids have this start, by id."""
    found: list[Artist] = figure.findobj(lambda artist: (artist.get_gid() or "").startswith(start))
    return {str(artist.get_gid()): artist for artist in found}


def read_svg(data: bytes) -> tuple[dict[str, ET.Element], list[str]]:
    """Return the elements of an SVG that have ids, and its texts."""
    root = ET.fromstring(data)
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    return {node.attrib["id"]: node for node in root.iter() if "id" in node.attrib}, texts


def box(group: ET.Element) -> tuple[float, float, float, float]:
    """Return left, right, top and bottom of a rectangle of an SVG."""
    (path,) = group.iter("{http://www.w3.org/2000/svg}path")
    points = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.attrib["d"]), dtype=float)
    return points[:, 0].min(), points[:, 0].max(), points[:, 1].min(), points[:, 1].max()


def position(group: ET.Element) -> tuple[float, float]:
    """Return x and y of a label of an SVG."""
    (text,) = group.iter("{http://www.w3.org/2000/svg}text")
    rotated = re.match(r"translate\(([\d.]+) ([\d.]+)\)", text.attrib["transform"])
    x, y = rotated.groups() if rotated else (text.attrib["x"], text.attrib["y"])
    return float(x), float(y)


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["plot", *map(str, arguments)])


def refused(*arguments: Any) -> str:
    """Run plot with wrong arguments; return the one line of its error."""
    result = run(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit), "no traceback"
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


# ---- the picture


@pytest.mark.parametrize("kind", plot.PICTURE_FORMATS)
def test_every_format_is_valid_and_reproducible(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    before = dict(matplotlib.rcParams)
    data = render(PICTURE, kind)
    assert data.startswith(HEADS[kind])
    assert data == render(PICTURE, kind)
    assert not caplog.records
    assert dict(matplotlib.rcParams) == before


def test_cells_hold_the_weights() -> None:
    mesh = draw(PICTURE).axes[0].collections[0]
    assert np.asarray(mesh.get_array()).reshape(2, 3) == pytest.approx(np.array(WEIGHTS))
    assert mesh.get_clim() == (0, 0.7)


def test_coverage_is_the_sum_of_each_column() -> None:
    bars = parts(draw(PICTURE), "coverage-")
    assert list(bars) == ["coverage-0", "coverage-1", "coverage-2"]
    assert [bar.get_height() for bar in bars.values()] == pytest.approx([0.8, 0.5, 0.7])
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars.values()] == pytest.approx([0, 1, 2])


def test_coverage_in_the_svg_is_below_its_column() -> None:
    ids, _ = read_svg(render(PICTURE, "svg"))
    boxes = [box(ids[f"coverage-{number}"]) for number in range(3)]
    heights = [bottom - top for _, _, top, bottom in boxes]
    assert [height / heights[0] for height in heights] == pytest.approx([1, 5 / 8, 7 / 8], abs=1e-4)
    for number, (left, right, top, _) in enumerate(boxes):
        x, y = position(ids[f"source-{number}"])
        assert abs((left + right) / 2 - x) < 4  # the baseline of a rotated label is next to its middle
        assert top > y


def test_p_gen_is_drawn_only_if_it_is_given() -> None:
    bars = parts(draw(PICTURE), "p_gen-")
    assert [bar.get_width() for bar in bars.values()] == [0.25, 0.75]
    ids, texts = read_svg(render(PICTURE, "svg"))
    assert {"p_gen", "p_gen-0", "p_gen-1"} <= set(ids)
    assert "p_gen" in texts
    ids, texts = read_svg(render(dataclasses.replace(PICTURE, p_gen=[]), "svg"))
    assert not any(name.startswith("p_gen") for name in ids)
    assert "p_gen" not in texts


def test_an_svg_holds_pieces_and_titles_as_text() -> None:
    _, texts = read_svg(render(PICTURE, "svg"))
    assert {*PICTURE.src_pieces, *PICTURE.tgt_pieces, "source: der Hund", "coverage", "attention"} <= set(texts)


@pytest.mark.parametrize("copied", [[1, None], [None, None], [], [0, 2], [2, 2]])
def test_only_copied_cells_are_framed(copied: list[int | None]) -> None:
    ids, _ = read_svg(render(dataclasses.replace(PICTURE, copied_from=copied), "svg"))
    expected = {(target, source) for target, source in enumerate(copied) if source is not None}
    assert {name for name in ids if name.startswith("copied-")} == {f"copied-{t}-{s}" for t, s in expected}
    columns = [box(ids[f"coverage-{number}"])[:2] for number in range(3)]
    rows = [box(ids[f"p_gen-{number}"])[2:] for number in range(2)]
    for target, source in expected:
        left, right, top, bottom = box(ids[f"copied-{target}-{source}"])
        assert [n for n, (start, end) in enumerate(columns) if left < start and end < right] == [source]
        assert [n for n, (start, end) in enumerate(rows) if top < start and end < bottom] == [target]


def test_rows_go_down_and_columns_to_the_right() -> None:
    ids, _ = read_svg(render(PICTURE, "svg"))
    assert position(ids["target-0"])[1] < position(ids["target-1"])[1]
    assert position(ids["source-0"])[0] < position(ids["source-1"])[0] < position(ids["source-2"])[0]


def long_picture(src: int, tgt: int) -> Picture:
    return Picture([f"▁piece{n}" for n in range(src)], ["x"] * tgt, [[1 / src] * src] * tgt, title=["word " * 200])


def test_longer_sources_get_a_wider_picture_and_no_labels_overlap() -> None:
    widths = []
    for length in (10, 60, 90):
        figure = draw(long_picture(length, 12))
        figure.draw_without_rendering()
        widths.append(figure.get_size_inches()[0])
        for name in ("source-", "target-"):
            boxes = [label.get_window_extent() for label in parts(figure, name).values()]
            assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
    (title,) = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_text().startswith("word"))
    assert title.get_window_extent().y0 > max(
        label.get_window_extent().y1 for label in parts(figure, "source-").values()
    )
    assert widths[2] - widths[1] == pytest.approx(30 * plot.CELL_SIZE)
    assert widths[1] - widths[0] == pytest.approx(50 * plot.CELL_SIZE)


def test_the_size_of_a_png_is_bounded() -> None:
    figure = draw(long_picture(500, 200))
    width, height = figure.get_size_inches() * figure.dpi
    assert width * height <= plot.MOST_PIXELS + 1
    assert draw(long_picture(60, 40)).dpi == plot.DPI


def test_unusual_pieces_are_shown_literally() -> None:
    odd = ["$x^2$", "<&>", "a\nb\x00", "\ufffe", "_", " "]
    picture = Picture(odd, ["\udc80"], [[0.1] * 6], title=["two\nlines $a$"])
    for kind in plot.PICTURE_FORMATS:
        assert render(picture, kind).startswith(HEADS[kind])
    _, texts = read_svg(render(picture, "svg"))
    assert {"$x^2$", "<&>", "a\\nb\\x00", "\\ufffe", "\\udc80", "two lines $a$"} <= set(texts)


def test_long_pieces_and_titles_are_cut() -> None:
    _, texts = read_svg(render(Picture(["a" * 100], ["狗" * 100], [[1.0]], title=["b" * 500]), "svg"))
    shown = {text for text in texts if text.endswith("…")}
    assert shown == {"a" * 27 + "…", "狗" * 13 + "…", "b" * 71 + "…"}


def test_short_labels_are_upright_and_long_ones_rotated() -> None:
    def angles(*pieces: str) -> list[float]:
        figure = draw(Picture(pieces, ["x"], [[1.0] * len(pieces)]))
        return [label.get_rotation() for label in parts(figure, "source-").values()]

    assert angles("a", "b", "狗") == [0, 0, 0]
    assert angles("狗", "看见", "Hund", ",", "</s>") == [0, 0, 90, 0, 90]


def test_the_parts_of_a_picture_must_have_matching_sizes() -> None:
    for changes in ({"weights": WEIGHTS[:1]}, {"src_pieces": ["a"]}, {"p_gen": [0.5]}, {"copied_from": [None]}):
        with pytest.raises(AssertionError, match=r"for every (source|target) piece"):
            dataclasses.replace(PICTURE, **changes)


# ---- fonts


def chinese() -> Picture:
    return Picture(list(CJK), ["dog", "，"], [[0.2] * 5] * 2, title=["source: " + CJK])


def test_cjk_pieces_are_in_the_svg() -> None:
    _, texts = read_svg(render(chinese(), "svg"))
    assert {*CJK, "，", "source: " + CJK} <= set(texts)


@pytest.mark.parametrize(
    ("kind", "effect"),
    [
        ("png", "they are drawn as boxes"),
        ("svg", "the SVG holds the text, but shows it only where such a font is installed"),
    ],
)
def test_missing_characters_give_one_warning(kind: str, effect: str, caplog: pytest.LogCaptureFixture) -> None:
    assert render(chinese(), kind).startswith(HEADS[kind])
    named = " ".join(sorted(CJK + "，")) if kind == "svg" else " ".join(sorted(CJK))  # a PNG uses another comma
    (message,) = caplog.messages
    assert message == (
        f"no installed font has {named}; {effect}; install one, on Debian fonts-noto-cjk (Chinese, Japanese, Korean) "
        "or fonts-noto-core"
    )


def test_at_most_twenty_missing_characters_are_named(caplog: pytest.LogCaptureFixture) -> None:
    render(Picture(["".join(map(chr, range(0x4E00, 0x4E00 + 25)))], ["x"], [[1.0]]), "png")
    assert "丐 丑 丒 专 and 5 more; they are drawn" in caplog.text


def test_the_joiner_of_the_word_tokenizer_can_be_drawn_with_every_font(caplog: pytest.LogCaptureFixture) -> None:
    picture = Picture(["Hund", "￭."], ["dog", "￭."], [[0.5] * 2] * 2)
    same = dataclasses.replace(picture, src_pieces=["Hund", "■."], tgt_pieces=["dog", "■."])
    assert render(picture, "png") == render(same, "png")
    assert not caplog.records


def test_installed_fonts_with_the_characters_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = list(font_manager.fontManager.ttflist)
    files = [
        make_font(tmp_path / "LastResort.ttf", "Last Resort", CJK + "，猫"),
        make_font(tmp_path / "aaa.ttf", "Other Font", CJK),
        make_font(tmp_path / "NotoSansCJK-Bold.ttf", "Bold Font", CJK),
        make_font(tmp_path / "NotoSansCJK-Regular.ttf", "Test CJK", CJK),
        make_font(tmp_path / "zzz.ttf", "Comma Font", "，"),
        str(tmp_path / "broken.otf"),
        str(tmp_path / "missing.ttf"),
    ]
    Path(files[-2]).write_bytes(b"no font")
    monkeypatch.setattr(plot, "font_files", lambda: files)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)
    assert find_fonts("dog ▁ \u200d\ufe0f") == ([plot.BASIC_FONT], "")
    assert find_fonts(CJK + "，") == ([plot.BASIC_FONT, "Test CJK", "Comma Font"], "")
    assert find_fonts(CJK + "猫") == ([plot.BASIC_FONT, "Test CJK"], "猫")
    for kind in plot.PICTURE_FORMATS:
        assert render(chinese(), kind).startswith(HEADS[kind])
    assert b"'DejaVu Sans', 'Test CJK', 'Comma Font'" in render(chinese(), "svg")
    assert not caplog.records


def test_another_font_changes_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = render(chinese(), "png")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    monkeypatch.setattr(plot, "font_files", lambda: [make_font(tmp_path / "unifont.ttf", "Square Font", CJK)])
    assert render(chinese(), "png") != without


def test_installed_font_files_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert all(Path(path).suffix.lower() in (".ttf", ".otf", ".ttc") for path in plot.font_files())


# ---- Translator.trace


def test_a_trace_describes_the_translation(copying: str) -> None:
    translator = Translator.load(copying, device="cpu")
    found, provenance = translator.trace(LINE)
    ((expected,),) = translator.search([LINE])
    assert found == expected
    count, length = len(found.pieces) + 1, len(found.source_pieces) + 1
    assert provenance.weights.shape == provenance.copied.shape == (count, length)
    assert provenance.weights.sum(dim=1).tolist() == pytest.approx([1] * count, abs=1e-5)
    assert provenance.weights[:-1, :-1].argmax(dim=1).tolist() == found.alignment
    assert provenance.p_gen[:-1].tolist() == found.p_gen


@pytest.mark.parametrize("name", ["copying", "plain"])
def test_a_given_target_has_the_score_of_the_search(name: str, request: pytest.FixtureRequest) -> None:
    translator = Translator.load(request.getfixturevalue(name), device="cpu")
    found, provenance = translator.trace(LINE)
    forced, forced_provenance = translator.trace(LINE, found.translation)
    assert forced.pieces == found.pieces, "this test requires a translation that survives its text"
    assert forced.score == pytest.approx(found.score, abs=1e-4)
    assert forced.token_log_probs == pytest.approx(found.token_log_probs, abs=1e-4)
    assert forced_provenance.weights == pytest.approx(provenance.weights, abs=1e-5)
    other, _ = translator.trace(LINE, "the old dog")
    assert other.pieces == ["the", "old", "dog"]
    assert other.token_log_probs == pytest.approx(translator.score([LINE], ["the old dog"])[0], abs=1e-4)
    assert other.score < found.score


def test_a_trace_refuses_blank_lines_and_models_without_attention(plain: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the source text is blank; give it at least one word"):
        Translator.load(plain, device="cpu").trace(" \u3000")
    blind = Translator.load(save_model(tmp_path / "none", attention="none"), device="cpu")
    with pytest.raises(ValueError, match=r"no attention \(model.attention is none\).*choose a model trained with"):
        blind.trace(LINE)


# ---- the command


def test_the_command_draws_the_values_of_the_trace(copying: str, tmp_path: Path) -> None:
    output = tmp_path / "out.svg"
    result = run(copying, "--text", LINE, "--output", output)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    found, provenance = Translator.load(copying, device="cpu").trace(LINE)
    ids, texts = read_svg(output.read_bytes())
    labels = [
        ["".join(ids[f"{side}-{n}"].itertext()).strip() for n in range(count)]
        for side, count in zip(("target", "source"), provenance.weights.shape, strict=True)
    ]
    assert labels == [[*found.pieces, "</s>"], [*found.source_pieces, "</s>"]]
    shares = provenance.copied.sum(dim=1)
    marks = {(t, int(provenance.copied[t].argmax())) for t in range(len(shares)) if shares[t] > 0.5}
    copied = {(t, place.source_piece) for t, place in enumerate(found.copied_from) if place is not None}
    assert copied == {mark for mark in marks if mark[0] < len(found.pieces)}
    assert 0 < len(copied) < len(found.pieces)
    assert any(0.3 < share < 0.5 for share in shares), "this test requires a model that almost copies"
    assert {name for name in ids if name.startswith("copied-")} == {f"copied-{t}-{s}" for t, s in marks}
    heights = [bottom - top for n in range(len(labels[1])) for *_, top, bottom in [box(ids[f"coverage-{n}"])]]
    coverage = provenance.weights.sum(dim=0)
    assert heights == pytest.approx((coverage * heights[0] / coverage[0]).tolist(), abs=1e-3)
    assert f"source: {LINE}" in texts
    assert f"score {found.score:.3f}, log P {found.log_prob:.2f}; framed: copied" in texts


def test_a_model_that_does_not_copy_has_no_p_gen(plain: str, tmp_path: Path) -> None:
    assert run(plain, "--text", LINE, "--output", tmp_path / "out.svg").exit_code == 0
    ids, texts = read_svg((tmp_path / "out.svg").read_bytes())
    assert not any(name.startswith(("p_gen", "copied")) for name in ids)
    assert not any("copied" in text for text in texts)


@pytest.mark.parametrize("name", ["out.png", "out.PNG", "out.svg", "out.pdf"])
def test_the_file_name_determines_the_format(copying: str, tmp_path: Path, name: str) -> None:
    assert run(copying, "--text", LINE, "--output", tmp_path / name).exit_code == 0
    assert (tmp_path / name).read_bytes().startswith(HEADS[name[-3:].lower()])


def test_a_target_is_drawn_instead_of_the_translation(copying: str, tmp_path: Path) -> None:
    output = tmp_path / "out.svg"
    assert run(copying, "--text", LINE, "--target", "two men sleep", "--output", output).exit_code == 0
    ids, texts = read_svg(output.read_bytes())
    labels = ["".join(ids[name].itertext()).strip() for name in ids if name.startswith("target-")]
    assert labels == ["two", "men", "sleep", "</s>"]
    assert "given target: two men sleep" in texts


def test_the_beam_size_is_used(plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_used: list[dict[str, Any]] = []
    original = Translator.trace

    def trace(self: Translator, *arguments: Any) -> Any:
        settings_used.append(dict(vars(self.search_config)))
        return original(self, *arguments)

    monkeypatch.setattr(Translator, "trace", trace)
    for flags in (["--beam-size", 1], []):
        assert run(plain, "--text", LINE, "--output", tmp_path / "out.png", *flags).exit_code == 0
    assert settings_used == [settings_used[1] | {"beam_size": 1}, settings_used[1]]
    assert settings_used[1]["beam_size"] == 3


def test_the_command_reports_missing_characters_in_one_line_and_does_not_import_pyplot(
    copying: str, tmp_path: Path
) -> None:
    command = """
import sys
from seq2seq import plot
from seq2seq.commands import app as cli
plot.font_files = list
try:
    cli.main()
finally:
    print("matplotlib.pyplot" in sys.modules)
"""
    arguments = ["plot", copying, "--text", "狗 看见 人", "--target", "狗", "--output", str(tmp_path / "out.png")]
    done = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("WARNING: no installed font has 人 狗 看 见; they are drawn as boxes; install one")
    assert (tmp_path / "out.png").read_bytes().startswith(HEADS["png"])


def test_a_long_source_is_cut_with_a_warning(plain: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(plain, "--text", "dog " * 20, "--output", tmp_path / "out.svg").exit_code == 0
    assert "line 1 has 20 pieces and is cut to 12" in caplog.text
    ids, _ = read_svg((tmp_path / "out.svg").read_bytes())
    assert sum(name.startswith("source-") for name in ids) == 13


def test_errors_of_plot(plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = ("--text", LINE, "--output", tmp_path / "out.png")
    for name in ("out.jpg", "out", ".png"):
        output = tmp_path / name
        message = f"a picture's file must end in .png, .svg or .pdf, but is {output}"
        assert refused("nosuch", "--text", LINE, "--output", output) == message
    assert refused("nosuch", *good) == "there is no model directory nosuch"
    assert refused(plain, "--text", "  ", *good[2:]) == "the source text is blank; give it at least one word"
    blank = "--target is blank; give it at least one word, or remove it"
    assert refused(plain, *good, "--target", " ") == blank
    useless = "--beam-size has no effect on a given --target; remove one of them"
    assert refused(plain, *good, "--target", "dog", "--beam-size", 2) == useless
    blind = save_model(tmp_path / "none", attention="none")
    assert refused(blind, *good) == (
        "the model has no attention (model.attention is none), so there are no attention weights to show; "
        "choose a model trained with another model.attention, for example additive"
    )
    lost = tmp_path / "no" / "folder.png"
    assert refused(plain, "--text", LINE, "--output", lost) == f"{lost} can't be written: No such file or directory"
    assert run(plain, "--output", "out.png").exit_code == 2
    assert not (tmp_path / "out.png").exists()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "seq2seq.plot")
    assert re.fullmatch(
        r'plot requires matplotlib \(.*\); run pip install "\.\[plot\]" in the checkout of seq2seq',
        refused(plain, *good),
    )


def test_check_format() -> None:
    assert [check_format(Path(f"a.b.{kind.upper()}")) for kind in plot.PICTURE_FORMATS] == list(plot.PICTURE_FORMATS)
    with pytest.raises(ValueError, match=r"^a picture's file must end in \.png, \.svg or \.pdf, but is a\.jpeg$"):
        check_format(Path("a.jpeg"))


def test_matplotlib_is_imported_by_plot_only() -> None:
    code = "import sys, seq2seq.commands.app, seq2seq.translator, seq2seq.metrics.scores; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "False\n"
