"""Options may stand before the command that they are for.

`rlhf-tui --runs-dir X runs` is `rlhf-tui runs --runs-dir X`.
"""

from __future__ import annotations

import typer
from typer.core import TyperGroup

from rlhf_engine.commands.parsing import CommandLine


class AnyOrder(CommandLine):
    """The command line of the workbench. What stands before a command and that command takes is handed to it; the
    rest is left to the workbench, whose function asks for it by `left_before`.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse `args`, in the order in which they are meant."""
        return super().parse_args(ctx, self._in_order(args))

    @staticmethod
    def left_before(ctx: typer.Context) -> list[str]:
        """The options, as they are typed, that were left to the workbench although a command was named."""
        given = []
        for parameter in ctx.command.params:
            source = ctx.get_parameter_source(parameter.name or "")
            if source is not None and source.name == "COMMANDLINE":
                given.append(parameter.opts[0])
        return given

    @staticmethod
    def arguments(ctx: typer.Context) -> list[str]:
        """The names of what the command that was named takes by its place."""
        assert isinstance(ctx.command, TyperGroup)
        command = ctx.command.commands[ctx.invoked_subcommand or ""]
        return [parameter.name or "" for parameter in command.params if parameter.param_type_name == "argument"]

    def _in_order(self, args: list[str]) -> list[str]:
        place = self._place_of_command(args)
        if place is None:
            return args
        command, at = args[place], 0
        before: list[str] = []
        moved: list[str] = []
        while at < place:
            length = max(1, _taken(self.commands[command], args[at]) or _taken(self, args[at]))
            whole = args[at:min(at + length, place)]
            (moved if _taken(self.commands[command], args[at]) and args[at] != "--help" else before).extend(whole)
            at += length
        return [*before, command, *moved, *args[place + 1:]]

    def _place_of_command(self, args: list[str]) -> int | None:
        at = 0
        while at < len(args) and args[at] != "--":
            if args[at].startswith("-"):
                # an option that the workbench does not know may have a value, which is no command
                at += _taken(self, args[at]) or 1
            elif args[at] in self.commands:
                return at
            else:
                at += 1
        return None


def _taken(command: object, argument: str) -> int:
    """How many arguments `command` takes for the option that `argument` begins: 0 where it has no such option."""
    name, _, value = argument.partition("=")
    for parameter in command.params:  # type: ignore[attr-defined]
        if name in (*parameter.opts, *parameter.secondary_opts) and name.startswith("-"):
            return 1 if value or getattr(parameter, "is_flag", False) else 1 + parameter.nargs
    return 0
