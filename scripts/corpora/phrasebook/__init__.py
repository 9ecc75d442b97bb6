"""The lexicon, grammar and sentence patterns behind scripts/corpora/make_phrasebook.py."""
