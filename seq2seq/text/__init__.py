"""Text: tokenizers, which convert text to ids and back, and the words and sentences that the metrics count."""
