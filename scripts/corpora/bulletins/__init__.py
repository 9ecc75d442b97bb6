"""The names and the kinds of event for scripts/corpora/make_bulletins.py."""
