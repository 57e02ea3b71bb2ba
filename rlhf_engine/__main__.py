"""`python -m rlhf_engine`: the commands, headless."""

from rlhf_engine.system.own_process import leave_working_folder

leave_working_folder()

from rlhf_engine.commands.cli import main  # noqa: E402

main()
