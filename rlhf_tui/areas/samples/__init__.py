"""Samples of a run, and what answered the probe when."""
