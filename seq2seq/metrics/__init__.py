"""Metrics: corpus scores with signatures, and paired comparison of systems."""
