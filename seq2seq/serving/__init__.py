"""The HTTP server: a queue that batches the lines of concurrent requests, an interface of JSON, and a page."""
