"""The page in headless Chromium: the heat map, the keyboard, narrow and dark screens, and text that looks like HTML."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import RunningServer, save_model

from seq2seq.translator import Translator

pytestmark = pytest.mark.browser

LINE = "a man sees Xanthippe , too ."


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("chromium is not installed; on Debian, apt install chromium")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server(copying: Path) -> Iterator[RunningServer]:
    started = RunningServer(copying)
    yield started
    started.kill()


@pytest.fixture
def page(browser: Any, server: RunningServer) -> Iterator[Any]:
    """The page of a server; an error in the console and a request to another address fail the test."""
    opened = browser.new_page(viewport={"width": 1200, "height": 800})
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: complaints.append(request.url) if server.url not in request.url else None)
    opened.goto(server.url)
    opened.locator("#title", has_text=":").wait_for()
    yield opened
    assert [text for text in complaints if text != "data:," and "status of 422" not in text] == []
    opened.close()


def translate(page: Any, text: str, **values: int | float) -> None:
    page.fill("#text", text)
    for name, value in values.items():
        page.fill(f"#{name}", str(value))
    page.click("#go")
    page.locator("#status", has_text="Done.").wait_for()


def weights_shown(page: Any) -> list[float]:
    return [
        float(value) for value in page.locator(".source .word").evaluate_all("all => all.map(e => e.dataset.weight)")
    ]


def test_the_heat_map_shows_the_attention_of_the_word_under_the_pointer(page: Any, copying: Path) -> None:
    translate(page, LINE)
    found, provenance = Translator.load(copying, device="cpu").trace(LINE)
    words = page.locator(".target .word")
    assert words.count() == len(found.pieces)
    assert page.locator(".source .word").all_inner_texts() == LINE.split()
    for number in range(words.count()):
        words.nth(number).hover()
        expected = provenance.weights[number, :-1].tolist()
        assert weights_shown(page) == pytest.approx(expected, abs=1e-3)
        detail = page.inner_text(".detail")
        assert f"p_gen {found.p_gen[number]:.2f}" in detail
        place = found.copied_from[number]
        marked = page.locator(".source .word.origin").all_inner_texts()
        assert marked == ([] if place is None else [found.source_pieces[place.source_piece]])
        assert ("copied from word" in detail) == (place is not None)
    copied = [number for number, place in enumerate(found.copied_from) if place is not None]
    assert 0 < len(copied) < len(found.pieces), "this test requires a model that copies some words"
    assert page.locator(".target .word.copied").count() == len(copied)
    page.locator("#title").hover()
    assert weights_shown(page) == [0] * len(found.source_pieces)
    coverage = provenance.weights[:-1, :-1].sum(dim=0).tolist()
    assert page.locator(".source .word.uncovered").count() == sum(value < 0.2 for value in coverage)


def test_uncovered_words_are_faded(page: Any, copying: Path) -> None:
    translate(page, LINE, beam=1, best=1)
    page.evaluate(
        """() => {
            const found = {pieces: ["x"], source_pieces: ["a", "b"], attention: [[0.9, 0.05, 0.05]], alignment: [0],
                copied_from: [], p_gen: []};
            const boxes = [...document.querySelectorAll(".words")];
            drawTarget(boxes[1], found, document.querySelector(".detail"), boxes[0]);
        }"""
    )
    assert page.locator(".source .word.uncovered").all_inner_texts() == ["b"]


def test_pieces_become_words(page: Any) -> None:
    def words(*pieces: str) -> str:
        return page.evaluate("pieces => wordsOf(pieces).map(w => (w.space ? ' ' : '|') + w.text).join('')", pieces)

    assert words("▁The", "▁un", "able", ",", "▁", "dog", "▁") == "|The unable|, dog"
    assert words("▁狗", "看见", "人", "。") == "|狗|看见|人|。"
    assert words("man", "￭,", "￭(￭", "a", "￭)") == "|man|,|(|a|)"
    assert words("▁", "狗") == "|狗"


def test_the_keyboard_moves_over_the_words(page: Any) -> None:
    translate(page, LINE)
    words = page.locator(".target .word")
    words.nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("\u2068")
    assert "active" in words.nth(1).get_attribute("class")
    assert sum(weights_shown(page)) > 0.5
    page.keyboard.press("End")
    assert "active" in words.last.get_attribute("class")
    page.keyboard.press("Escape")
    assert sum(weights_shown(page)) == 0
    assert words.evaluate_all("all => all.filter(e => e.tabIndex === 0).length") == 1


def test_the_controls_change_the_search(page: Any, copying: Path) -> None:
    translate(page, LINE, beam=4, best=3, penalty=0)
    (found,) = (
        Translator.load(copying, device="cpu").with_search(beam_size=4, length_penalty=0.0).search([LINE], n_best=3)
    )
    shown = page.locator(".best .score").all_inner_texts()
    assert shown == [f"{each.score:.3f}" for each in found]
    assert page.locator(".best .text").all_inner_texts() == [each.translation for each in found]
    page.locator(".best input").nth(2).check()
    assert page.locator(".target .word").count() == len(found[2].pieces)
    translate(page, LINE, beam=1, best=1)
    assert page.locator(".best").count() == 0


def test_html_in_the_text_and_in_the_name_of_the_model_stays_text(page: Any, copying: Path) -> None:
    title = f"seq2seq: {copying.name}"
    assert page.inner_text("#title") == title
    text = "<script>document.title='bad'</script> <img src=x onerror=document.title='bad'>"
    translate(page, text)
    assert page.title() == title
    assert page.locator("img, main script").count() == 0
    assert "<script>" in page.inner_text(".source").replace(" ", "")


def test_each_line_is_a_text_unless_the_lines_are_joined(page: Any) -> None:
    translate(page, "two men\n\n  \nthe dog")
    assert page.locator(".result").count() == 2
    page.uncheck("#lines")
    translate(page, "two men\n\nthe dog")
    assert page.locator(".result").count() == 1
    assert page.locator(".source .word").all_inner_texts() == ["two", "men", "the", "dog"]


def test_right_to_left_text_runs_from_the_right(page: Any) -> None:
    translate(page, "رجل يرى الكلب القديم .")
    assert page.locator(".source").evaluate("e => getComputedStyle(e).direction") == "rtl"
    first, second = (page.locator(".source .word").nth(number).bounding_box() for number in (0, 1))
    assert first["x"] > second["x"]
    translate(page, "狗 看见 人 。")
    assert page.locator(".source").evaluate("e => getComputedStyle(e).direction") == "ltr"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_horizontal_scrolling(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 320, "height": 640})
    translate(page, LINE + " " + "x" * 200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    boxes = [page.locator(name).bounding_box() for name in (".source", ".target")]
    assert boxes[0]["y"] < boxes[1]["y"], "the sides are below each other"
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(251, 251, 249)" if scheme == "light" else "rgb(20, 22, 26)")


def test_a_refused_request_is_reported(page: Any) -> None:
    page.fill("#text", "x" * 20_001)
    page.click("#go")
    page.wait_for_selector("#status.error")
    assert page.inner_text("#status").startswith("No answer: the request is not valid: body text: ")


def test_a_model_without_attention_is_shown_without_a_heat_map(
    browser: Any, tmp_path: Path, start_server: Callable[..., RunningServer]
) -> None:
    server = start_server(save_model(tmp_path / "blind", attention="none"))
    page = browser.new_page()
    page.goto(server.url)
    translate(page, LINE)
    page.locator(".target .word").first.hover()
    assert page.inner_text(".detail").endswith(": no attention weights")
    assert not page.locator("#legend").is_visible()
    page.close()
