"""Presets and prompts."""
