"""Leaving the workbench, also while a run trains."""
