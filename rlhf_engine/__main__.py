"""`python -m rlhf_engine`: the commands, headless."""

from rlhf_engine.cli import main

main()
