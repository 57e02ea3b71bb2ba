"""Panes and other parts of screens. No widget touches a tensor or is handed raw text."""
