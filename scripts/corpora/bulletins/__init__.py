"""The names and the kinds of event behind scripts/corpora/make_bulletins.py."""
