"""Which kind of reward to add, and what one of that kind cannot do without."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from rlhf_engine.config.fields import Setting, list_in_file, needed_settings, parse, validate
from rlhf_engine.config.kinds import reward_kinds
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_tui.areas.settings_form.setting_rows import without_place
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.inputs import Choice, TextField
from rlhf_tui.widgets.screen import BaseDialog
from rlhf_tui.widgets.word_entries import parse_words


class NewRewardScreen(BaseDialog[RunConfig | None]):
    """Dismisses with the config that holds the new reward as its last, or None."""

    CSS_PATH = "reward_lab.tcss"
    AUTO_FOCUS = "Choice"
    BINDINGS: ClassVar[list[BindingType]] = [
        # from the kind too, where Enter would choose another one
        Binding("enter", "add", "Add", tooltip="Add the reward, if nothing is missing", id="new_reward.add",
                priority=True),
        Binding("escape", "back", "Back", tooltip="Add nothing", id="new_reward.back"),
        Binding("down", "app.focus_next", "Next field", show=False),
        Binding("up", "app.focus_previous", "Previous field", show=False),
    ]

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self._config = config
        kinds = list(reward_kinds())
        self._kind = Choice(kinds, kinds[0], id="kind")
        self._about = Static("", id="about", markup=False)
        self._fields = Vertical(id="needed")
        self._said = Static("", id="said", markup=False)
        self._needed: list[Setting] = []

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box", can_focus=False) as box:
            box.border_title = Content("Add a reward")
            box.border_subtitle = Content("Enter adds · Esc back")
            yield self._kind
            yield self._about
            yield self._fields
            yield self._said

    async def on_mount(self) -> None:
        await self._show_fields()

    async def on_choice_changed(self, event: Choice.Changed) -> None:
        """Another kind needs other things."""
        event.stop()
        await self._show_fields()

    async def _show_fields(self) -> None:
        kind = self._kind.value
        self._needed = needed_settings(kind)
        self._about.update(Content.styled(f"{reward_kinds()[kind].__doc__ or ''}  ← → another kind", "$text-muted"))
        await self._fields.remove_children()
        for setting in self._needed:
            help = "commas, semicolons or lines between; without them spaces" if setting.kind == "list" else ""
            field = TextField(self._free_name() if setting.name == "name" else "", placeholder=help,
                              id=f"new-{setting.name}")
            field.takes_list = setting.kind == "list"
            await self._fields.mount(Static(f"{setting.name}  {setting.help}", classes="name", markup=False), field)
        self._say()

    def _free_name(self) -> str:
        """The name that the kind proposes, with a number behind it where it is taken."""
        names = {reward.name for reward in self._config.rewards}
        base = str(next((item.default for item in self._needed if item.name == "name"), "") or self._kind.value)
        return next(name for name in (base, *(f"{base}{number}" for number in range(2, len(names) + 3)))
                    if name not in names)

    # --- checking ---

    def _made(self) -> RunConfig:
        """The config with the reward as it is written. Raises ConfigError."""
        given: dict[str, Any] = {"kind": self._kind.value}
        for setting in self._needed:
            text = self.query_one(f"#new-{setting.name}", TextField).value
            if text.strip() or setting.name == "name":
                given[setting.name] = self._words(setting, text) if setting.kind == "list" else parse(setting, text)
        data = self._config.model_dump()
        return validate({**data, "rewards": [*data["rewards"], given]})

    @staticmethod
    def _words(setting: Setting, text: str) -> list[str]:
        in_file = list_in_file(setting, text.strip(), Path())
        return parse_words(text) if in_file is None else in_file

    def _problem(self) -> str:
        try:
            self._made()
        except ConfigError as error:
            place, _, _ = error.problems[0].partition(": ")
            name = place.rpartition(".")[2]
            field = f"{name}: " if name in {item.name for item in self._needed} else ""
            return field + without_place(error.problems[0])
        return ""

    def _say(self) -> None:
        if len(self.query(TextField)) < len(self._needed):  # left, or another kind chosen, while fields were mounted
            return
        problem = self._problem()
        untouched = not any(field.value for field in self.query(TextField) if field.id != "new-name")
        style = "$text-muted" if problem and untouched else "$text-error" if problem else "$text-success"
        self._said.update(Content.styled(clean_line(f"✗ {problem}" if problem else "✓ Enter adds it"), style))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check what is typed while it is typed."""
        event.stop()
        self._say()

    def action_add(self) -> None:
        """Add what is right; stay with what is not."""
        if self.is_active and not self._problem():
            self.dismiss(self._made())

    def action_back(self) -> None:
        """Add nothing."""
        self.dismiss(None)
