"""Warnings about lines: the first three of each kind are logged, and all are summed up once."""

from __future__ import annotations

import logging

import pytest

from seq2seq.data.notices import Notices


def test_the_first_three_of_each_kind_are_logged_and_all_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    with caplog.at_level(logging.WARNING):
        for number in range(1500):
            notices.warn(f"line {number} is long", summary="are too long")
        notices.warn("line 7 is odd", summary="are odd")
    assert caplog.messages == ["line 0 is long", "line 1 is long", "line 2 is long", "line 7 is odd"]
    notices.translated, notices.cut = 2000, 3
    assert notices.lines(advice="raise it") == [
        "1,500 lines are too long",
        "3 of 2,000 translations were cut at the maximum length; raise it",
    ]


def test_what_is_not_shown_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices(shown=False)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            notices.warn("100 % of line 1", summary="are bad")
    assert not caplog.messages
    assert notices.lines(advice="") == ["4 lines are bad"]
    assert Notices().lines(advice="") == []
