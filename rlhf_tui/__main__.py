"""`python -m rlhf_tui`: the same as `rlhf-tui`."""

from rlhf_tui.start import main

main()
