"""Text to ids and back: tokenizers; and words and sentences for the metrics."""
