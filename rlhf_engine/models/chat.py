"""Prompts as messages: what a chat model is to read, by the template that its tokenizer came with."""

from __future__ import annotations

import json
from typing import Any

from rlhf_engine.errors import ModelError, PromptError, first_line
from rlhf_engine.models.foreign import foreign

Message = dict[str, Any]


class ChatTemplate:
    """A tokenizer's chat template, with a system text before each conversation that has none."""

    def __init__(self, tokenizer: Any, system: str | None = None) -> None:
        """Raises ModelError when the tokenizer has no template."""
        self._tokenizer, self._system = tokenizer, system
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError("data.chat_template: the model's tokenizer has no chat template; set it to false, or take "
                             "a model that was made for chat")

    def render(self, prompt: str) -> str:
        """The text that the model continues: the conversation, and the beginning of the assistant's turn.

        All special tokens that the template wants are in it. A conversation that ends with the assistant's words is
        to be continued there. Raises PromptError for what the template refuses.
        """
        messages = messages_of(prompt)
        if self._system is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self._system}, *messages]
        begun = messages[-1]["role"] == "assistant"
        try:
            with foreign(first_line):  # somebody's template may raise whatever it likes
                return str(self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=not begun, continue_final_message=begun))
        except ModelError as error:
            raise PromptError(f"the model's chat template refuses the prompt {prompt[:40]!r}: {error}") from error


def messages_of(prompt: str) -> list[Message]:
    """The conversation in a prompt: the messages that it lists as JSON, each with a role and a content, or else one
    message of the user's."""
    if prompt.lstrip().startswith("["):
        try:
            found = json.loads(prompt)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list) and found and all(map(_is_message, found)):
            return found
    return [{"role": "user", "content": prompt}]


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)
