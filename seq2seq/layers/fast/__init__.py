"""Faster versions of plain layers, each with a hand-written backward."""
