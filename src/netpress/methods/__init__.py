"""The methods, one a file; the file's name is the public name. Nothing is imported here: see ``pipeline.method``."""
