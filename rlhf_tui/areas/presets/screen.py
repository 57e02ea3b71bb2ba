"""Choose a preset for the next run; keep the settings as one of your own."""

from __future__ import annotations

from functools import cache, partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from rlhf_engine.config import presets
from rlhf_engine.config.presets import PresetInfo
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError
from rlhf_engine.files.disk import NAME, NAME_RULE
from rlhf_tui.areas.presets.preset_details import preset_details
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.widgets.dialogs import SureScreen
from rlhf_tui.widgets.inputs import TextField
from rlhf_tui.widgets.picker import DetailsPicker
from rlhf_tui.widgets.screen import BaseDialog


class PresetScreen(DetailsPicker):
    """Dismisses with the name of a preset, or None."""

    CSS_PATH = "screen.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-slim"), (76, "-roomy")]  # noqa: RUF012 (so the base class declares it)
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (12, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Take", tooltip="Use this preset for the next run", id="presets.take", priority=True),
        # no letter, which would be typed into the filter
        Binding("f8", "remove", "Remove preset", tooltip="Delete a preset of your own for good; asks first",
                id="presets.remove"),
    ]
    title_text = "Presets"
    keys_text = "Enter take · F8 remove · PgDn more · Esc back"

    def __init__(self, held: str = "") -> None:
        """held: why none can be taken now; empty if one can."""
        super().__init__()
        self._held = held
        self._presets: list[PresetInfo] = presets.available()
        self._configs = cache(_load)

    def _fill(self, again: bool = False) -> None:
        wanted = self._filter.value.lower().split()
        found = [info for info in self._presets
                 if all(word in f"{info.name} {info.description}".lower() for word in wanted)]
        at = self._list.highlighted or 0 if again else 0
        self._list.clear_options()
        self._list.add_options([Option(_line(info), id=info.name) for info in found])
        if found:
            self._list.highlighted = min(at, len(found) - 1)
        else:
            self._details.update(Content("no preset matches" if self._presets else "there are no presets"))

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show what the preset would do."""
        config = self._configs(event.option.id)
        if isinstance(config, str):
            self._details.update(Content.styled(config, "$text-error"))
        else:
            self._details.update(preset_details(config))

    def action_take(self) -> None:
        """Take the preset under the cursor, or say why not now."""
        if self._held:
            self._details.update(Content.styled(self._held, "$text-warning"))
        else:
            super().action_take()

    def action_remove(self) -> None:
        """Ask, then remove the preset under the cursor; one that came with us says why it stays."""
        if self._list.highlighted is None or not self._list.option_count:
            return
        name = str(self._meant(self._list.highlighted))
        info = next(info for info in self._presets if info.name == name)
        if info.origin != "yours":
            self._details.update(Content.styled(presets.stays(name), "$text-warning"))
            return
        text = f"Remove your preset {name} for good?\n\n{info.path}"
        self.app.push_screen(SureScreen("Remove preset", text, partial(presets.remove, name)), self._removed)

    def _removed(self, done: bool | None) -> None:
        if done:
            self._presets, self._configs = presets.available(), cache(_load)
            self._fill(again=True)


class SavePresetScreen(BaseDialog[str | None]):
    """Asks for a name; asks again before it overwrites. Dismisses with the name it saved under, or None."""

    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Back", id="save.back")]

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self._config = config
        self._taken = {info.name: info for info in presets.available()}
        self._sure = ""
        self._field = TextField(placeholder="name of the preset", id="name", max_length=64)
        self._said = Static("", id="said", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content("Save preset")
            box.border_subtitle = Content("Enter save · Esc back")
            yield self._field
            yield self._said

    def on_mount(self) -> None:
        self._field.focus()
        self._say("its own description is a setting: Hyperparameters, Preset", "$text-muted")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the name as one types."""
        event.stop()
        self._sure = ""
        name = event.value
        taken = self._taken.get(name)
        if not name:
            self._say("", "")
        elif not NAME.fullmatch(name):
            self._say(f"✗ {NAME_RULE}", "$text-error")
        elif taken is None:
            self._say(f"✓ saved as {name}", "$text-success")
        elif taken.origin == "yours":
            self._say(f"⚠ you have a preset {name}: Enter asks before it overwrites", "$text-warning")
        else:
            self._say(f"⚠ This overrides the shipped preset “{name}”; F8 in the list of presets brings that back",
                      "$text-warning")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Save; a name that is taken needs Enter twice."""
        event.stop()
        name = event.value
        if not NAME.fullmatch(name):
            self._say(f"✗ {NAME_RULE}", "$text-error")
            return
        taken = self._taken.get(name)
        if taken is not None and taken.origin == "yours" and self._sure != name:
            self._sure = name
            self._say(f"⚠ Enter once more overwrites {name}; another name, or Esc, does not", "$text-warning bold")
            return
        try:
            path = presets.save(name, self._config, overwrite=self._sure == name)
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
            return
        self.dismiss(name)
        self.app.notify(f"preset {name} saved: {path}")

    def action_back(self) -> None:
        """Save nothing."""
        self.dismiss(None)

    def _say(self, text: str, style: str) -> None:
        self._said.update(Content.styled(clean_text(text), style))


def _load(name: str) -> RunConfig | str:
    """A preset, or why it cannot be read."""
    try:
        return presets.load(name)
    except RlhfError as error:
        return clean_text(str(error))


def _line(info: PresetInfo) -> Content:
    yours = ("  yours", "$accent") if info.origin == "yours" else ""
    return Content.assemble((info.name, "bold"), yours, "\n", (clean_line(info.description), "$text-muted"))
