"""The commands, one module for each group of them; `rlhf_engine.cli` puts them together."""
