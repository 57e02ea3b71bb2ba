"""The commands, one module for each group of them; `rlhf_engine.commands.cli` puts them together."""
