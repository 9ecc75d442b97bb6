"""Metrics: corpus scores with signatures, and paired comparison of systems. They work on lines of text only."""
