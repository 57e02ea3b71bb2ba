"""`python -m rlhf_tui`: the same as `rlhf-tui`."""

from rlhf_engine.system.own_process import leave_working_folder

leave_working_folder()

from rlhf_tui.start import main  # noqa: E402

main()
