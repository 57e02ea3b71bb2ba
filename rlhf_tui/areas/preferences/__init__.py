"""Preferences of the workbench."""
