"""Processes, streams and text as the operating system has them."""
