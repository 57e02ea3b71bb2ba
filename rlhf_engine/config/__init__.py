"""The settings of a run: sections, fields, presets."""
