"""Networks written down for other runtimes: one target a file."""
