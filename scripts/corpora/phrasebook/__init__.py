"""The lexicon, grammar and sentence patterns for scripts/corpora/make_phrasebook.py."""
