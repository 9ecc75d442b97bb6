"""Warnings about single lines: the first of each kind are logged, all are counted and summed up at the end."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

MAX_NAMED = 3  # lines of each kind that are named


class Notices:
    """Counts of the lines that were translated, of those that were cut, and of those with a warning.

    Args:
        shown: whether to log warnings about single lines.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self.shown = shown
        self.translated = 0  # lines that are not blank
        self.cut = 0  # of these, lines whose translation was ended by the maximum length
        self.draws = 0  # pieces that were drawn at random
        self.near_draws = 0  # of these, draws that rounding can change
        self.warnings: dict[str, int] = {}  # text that sums up a kind of warning: number of lines

    def warn(self, message: str, *, summary: str) -> None:
        """Count a warning about a line, and log it if it is one of the first of its kind.

        Args:
            message: about this line.
            summary: about all lines of this kind, for ``lines``; it follows the number of lines.
        """
        count = self.warnings[summary] = self.warnings.get(summary, 0) + 1
        log.log(logging.WARNING if self.shown and count <= MAX_NAMED else logging.DEBUG, "%s", message)

    def lines(self, *, advice: str) -> list[str]:
        """Sum up, after the last line: the kinds with lines that were not named, and the translations that were cut.

        Args:
            advice: how to raise the maximum length.
        """
        lines = [f"{count:,} lines {summary}" for summary, count in self.warnings.items() if count > MAX_NAMED]
        return lines + self.cut_lines(advice=advice) + self._near_lines()

    def _near_lines(self) -> list[str]:
        """Return one line on the draws that lie close to a border between two pieces, or none if there are none."""
        if not self.near_draws:
            return []
        return [
            f"{self.near_draws:,} of {self.draws:,} draws lie within 1e-4 of the border between two pieces; in other batches "
            "or on another machine, rounding can change them"
        ]

    def cut_lines(self, *, advice: str) -> list[str]:
        """Return one line on the translations that were cut, or none if there are none."""
        if not self.cut:
            return []
        return [f"{self.cut:,} of {self.translated:,} translations were cut at the maximum length; {advice}"]
