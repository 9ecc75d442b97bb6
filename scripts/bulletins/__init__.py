"""The names and the kinds of event behind scripts/make_bulletins.py."""
