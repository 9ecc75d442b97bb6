"""The documentation site: every page and module has its place, links are rewritten, and options come from the parsers."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import build_site
import pytest
import site_pages
from build_site import DOCS, contents, joined, pages
from site_pages import REFERENCE, ROOT, WITHOUT_REFERENCE, command_pages, galleries, modules_of, systems_page
from typer.main import get_command

from seq2seq.commands.app import app


def test_every_page_is_once_in_the_table_of_contents() -> None:
    names = [name for group in contents(set(pages())).values() for name in group]
    generated = {"systems", "commands/index", "reference/index", "tutorials/index", "tutorials_zh/index"}
    assert sorted(set(names) - generated) == sorted(set(pages()) - {"index"})
    assert len(names) == len(set(names))


def test_a_new_page_is_added_to_its_group() -> None:
    found = contents({*pages(), "translating", "howto/another"})
    assert found["Know"][-1] == "translating"
    assert found["How to"][-1] == "howto/another"


def test_the_start_page_names_every_how_to() -> None:
    start = (DOCS / "index.md").read_text(encoding="utf-8")
    missing = [name for name in pages() if name.startswith("howto/") and f"({name}.md)" not in start]
    assert missing == [], "add them to docs/index.md"


def test_every_module_has_one_page_of_the_reference() -> None:
    package = ROOT / "seq2seq"
    parts = [file.relative_to(ROOT).with_suffix("").parts for file in package.rglob("*.py")]
    modules = {".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts}
    expected = {name for name in modules if (name + ".").split(".")[1] not in WITHOUT_REFERENCE}
    found = [module for subject in REFERENCE for module in modules_of(subject)]
    assert sorted(found) == sorted(expected), "give each module its place in REFERENCE of scripts/docs/site_pages.py"


def test_every_option_of_every_command_is_on_its_page() -> None:
    written = dict(command_pages())
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        page = written[f"commands/{name}.rst"]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                (option,) = re.findall(rf"^\.\. option:: .*(?<!\S){parameter.opts[0]}(?![\w-]).*$", page, re.MULTILINE)
                assert option, f"{name} {parameter.opts}"
    assert "``--config-dir (-cd)``" in written["commands/train.rst"]
    assert [f"   {name}" in written["commands/index.rst"] for name in get_command(app).commands]  # type: ignore[attr-defined]


LINKS = {
    "[laws](laws.md)": "[laws](laws.md)",
    "[the metrics](results.md#the-metrics)": "[the metrics](results.md#the-metrics)",
    "[set up](../CONTRIBUTING.md#set-up)": "[set up](contributing.md#set-up)",
    "[corpora](../data/README.md)": "[corpora](data.md)",
    "[start](../README.md)": "[start](index.md)",
    "[Pair](../seq2seq/data/sources.py)": "{py:obj}`Pair <seq2seq.data.sources.Pair>`",
    "[beam search](../seq2seq/search/beam.py)": "{py:obj}`beam search <seq2seq.search.beam>`",
    "[the demo](../scripts/demo.py)": "the demo",
    "[a gap](nowhere.md)": "[a gap](nowhere.md)",  # so that Sphinx reports it
    "[torch](https://pytorch.org)": "[torch](https://pytorch.org)",
    "[below](#below)": "[below](#below)",
    "![picture](road.svg)": "![picture](road.svg)",
    "```sh\n[laws](../CONTRIBUTING.md)\n```": "```sh\n[laws](../CONTRIBUTING.md)\n```",
}


@pytest.mark.parametrize("text", LINKS)
def test_links_lead_to_pages_of_the_site(text: str) -> None:
    assert joined(text, "road", DOCS / "road.md") == LINKS[text]


def test_links_of_a_page_in_a_folder() -> None:
    assert joined("[laws](../laws.md)", "howto/extend", DOCS / "howto" / "extend.md") == "[laws](../laws.md)"
    assert joined("[a](docs/faults.md)", "contributing", ROOT / "CONTRIBUTING.md") == "[a](faults.md)"


def test_a_folder_without_chapters_is_no_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_pages, "ROOT", tmp_path)
    chapter = tmp_path / "docs" / "tutorials" / "plot_01_cell.py"
    chapter.parent.mkdir(parents=True)
    assert galleries() == []
    chapter.touch()
    assert galleries() == [chapter.parent]
    monkeypatch.setattr(build_site, "systems_page", lambda: None)
    assert contents({"road"})["Learn"] == ["tutorials/index"]


def test_small_systems_are_shown_with_their_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_pages, "ROOT", tmp_path)
    monkeypatch.setattr(site_pages, "SYSTEMS", tmp_path / "scripts" / "tutorial")
    assert systems_page() is None
    site_pages.SYSTEMS.mkdir(parents=True)
    (site_pages.SYSTEMS / "shared.py").write_text('"""Options."""\n')
    (site_pages.SYSTEMS / "sine.py").write_text(
        '"""Sine to cosine.\n\nMore."""\nif __name__ == "__main__":\n    pass\n'
    )
    page = systems_page()
    assert page is not None
    assert page.index("Sine to cosine.") < page.index("Options.")  # what can be run comes first
    assert ".venv/bin/python scripts/tutorial/sine.py --help" in page
    assert "scripts/tutorial/shared.py --help" not in page
    assert ".. literalinclude:: ../../../scripts/tutorial/sine.py" in page


def test_pages_that_are_gone_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_site, "source_files", lambda: iter([("road.md", "text"), ("commands/train.rst", "text")]))
    build_site.write_source(tmp_path)
    before = (tmp_path / "road.md").stat().st_mtime_ns
    monkeypatch.setattr(build_site, "source_files", lambda: iter([("road.md", "text")]))
    chapters = tmp_path / "docs" / "tutorials"
    monkeypatch.setattr(build_site, "galleries", lambda: [chapters])
    chapters.mkdir(parents=True)
    (chapters / "plot_01_cell.py").touch()
    for name in ("plot_01_cell.rst", "plot_02_gone.rst", "index.rst"):
        (tmp_path / "tutorials").mkdir(exist_ok=True)
        (tmp_path / "tutorials" / name).touch()
    build_site.write_source(tmp_path)
    assert {file.name for file in tmp_path.rglob("*.*") if file.suffix in (".md", ".rst")} == {
        *("road.md", "plot_01_cell.rst", "index.rst")
    }
    assert (tmp_path / "road.md").stat().st_mtime_ns == before  # unchanged, so Sphinx does not read it again


# ---- docstrings and formulas; these need the extra docs


def test_a_formula_is_mathml_and_one_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    extension = pytest.importorskip("site_autodoc", reason="the extra docs is not installed")
    from docutils import nodes

    warnings: list[str] = []
    monkeypatch.setattr(extension.LOG, "warning", lambda text, *values, location: warnings.append(text % values))
    translator = SimpleNamespace(body=[])
    for node in (nodes.math("", r"h_1, \dots, h_T"), nodes.math_block("", r"\tanh(x)"), nodes.math("", r"\nonsense")):
        with pytest.raises(nodes.SkipNode):
            extension._math(translator, node)
    inline, block = translator.body
    assert inline.startswith("<math")
    assert "…" in inline
    assert block.startswith('<div class="formula"><math')
    assert warnings == [r'the formula \nonsense cannot be written: Unknown LaTeX command "\nonsense".']


def test_an_exported_name_leads_to_its_definition() -> None:
    definition_of = pytest.importorskip("site_autodoc", reason="the extra docs is not installed").definition_of
    assert definition_of("seq2seq.layers.RecurrentEncoder") == "seq2seq.layers.encoder.RecurrentEncoder"
    assert definition_of("seq2seq.layers.StackedCell.step") == "seq2seq.layers.cells.StackedCell.step"
    assert definition_of("seq2seq.Translator") == "seq2seq.translator.Translator"
    assert definition_of("seq2seq.layers.NoSuchLayer") is None


def test_signs_of_markup_are_escaped_except_in_code() -> None:
    escaped = pytest.importorskip("site_autodoc", reason="the extra docs is not installed").escaped
    assert escaped(["log P / |Y|^a, N = B*K, h_ and ``x * |y|``"]) == [
        "log P / \\|Y\\|^a, N = B\\*K, h\\_ and ``x * |y|``"
    ]
    assert escaped([">>> a * b", "a * b"]) == [">>> a * b", "a \\* b"]
    assert escaped(["P::", "", "    a * b", "", "a * b"]) == ["P::", "", "    a * b", "", "a \\* b"]


def test_fields_have_the_comments_on_their_lines() -> None:
    field_lines = pytest.importorskip("site_autodoc", reason="the extra docs is not installed").field_lines
    from seq2seq.layers.encoder import Encoded, RecurrentEncoder

    lines = field_lines(Encoded)
    assert "- ``values``: ``Tensor``. (B, S, M)" in lines
    assert "- ``sentences``: ``EncodedSentences | None``. Of an encoder with ``has_sentences``" in lines
    assert field_lines(RecurrentEncoder) == []
