"""Recurrent sequence to sequence: train, translate, score."""

__version__ = "0.1.0"
