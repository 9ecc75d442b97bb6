"""Metrics on lines of text: corpus scores with signatures, and paired comparison of systems."""
