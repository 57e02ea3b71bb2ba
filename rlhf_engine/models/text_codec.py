"""Prompts into token ids, and sampled ids into the text that stands after a prompt: the one door for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rlhf_engine.errors import ModelError, PromptError, first_line
from rlhf_engine.models.chat import ChatTemplate
from rlhf_engine.models.foreign import foreign, is_panic
from rlhf_engine.models.tokens import special_ids, token_name

Ids = Sequence[int]
_PROBES = ("a", "b", "1", ".")
_QUOTED = 40


class TextCodec:
    """A tokenizer, used as a model that continues texts needs it."""

    def __init__(self, tokenizer: Any, *, rows: int, end_ids: Ids = ()) -> None:
        """rows: the model's embeddings. end_ids: what ends a text."""
        self._tokenizer, self._rows = tokenizer, rows
        self._decode_rows = _decoder_of(tokenizer)
        self._prefix = _prefix(tokenizer)
        starts = [index for index in (tokenizer.bos_token_id, *end_ids) if index is not None and 0 <= index < rows]
        self._start = starts[0] if starts else None
        self._special = special_ids(tokenizer)
        # an end token that was added without being called special would be read as if the model had written its name
        self._marks = frozenset(end_ids) & frozenset(getattr(tokenizer, "added_tokens_decoder", {})) - self._special
        self._anchor = [] if _joins_alone(tokenizer) else self._find_anchor()
        self._anchor_text = self._texts([self._anchor])[0] if self._anchor else ""
        self._chat: ChatTemplate | None = None
        self.template: tuple[bool, str | None] = (False, None)
        """Whether prompts are messages, and the system message before them."""

    def use_chat_template(self, system: str | None) -> None:
        """From now on prompts are messages: rendered by the tokenizer's chat template, which then says alone what
        special tokens a prompt has. Raises ModelError when there is none."""
        self._chat, self.template = ChatTemplate(self._tokenizer, system), (True, system)

    def encode(self, prompts: Sequence[str], longest: int | None = None) -> list[list[int]]:
        """The ids of each prompt, behind the start token that the tokenizer gives a text, unless the prompt begins with
        that already (as chat templates do). What a tokenizer adds at the end is left out, for a prompt is to be
        continued; what the prompt itself ends with stays.

        longest: of prompts with more tokens only the last so many are taken, the start token with them. An empty prompt
        is one start token. Raises PromptError for a prompt that the tokenizer cannot read, or with a token that the
        model has no embedding for.
        """
        texts = [self._chat.render(prompt) for prompt in prompts] if self._chat else list(prompts)
        return [self._row(prompt, ids, longest) for prompt, ids in zip(prompts, self._read(texts), strict=True)]

    def encode_responses(self, responses: Sequence[str]) -> list[list[int]]:
        """The ids of each text as it stands after a prompt: without start token, and without the space that many
        tokenizers (SentencePiece) put before the first word of a text. Raises PromptError as `encode` does."""
        rows = self._read(list(responses))
        if self._anchor:
            behind = self._read([self._anchor_text + response for response in responses])
            kept = len(self._anchor)
            rows = [after[kept:] if after[:kept] == self._anchor else row
                    for row, after in zip(rows, behind, strict=True)]
        for response, row in zip(responses, rows, strict=True):
            self._require_embedded(response, row)
        return rows

    def encode_answered(
        self, prompts: Sequence[str], responses: Sequence[str]
    ) -> list[tuple[list[int], list[int]]]:
        """(ids of the prompt, ids of the response) of each pair, to learn the second from the first.

        The prompt's are those of `encode`: what sampling would see. The response's are those that it has where it
        stands behind the prompt, or else such as decode to it there. A text without a prompt stands behind a start
        token; where the model has none, its own first token is the prompt. Raises PromptError as `encode` does.
        """
        rendered = [self._chat.render(prompt) if self._chat and prompt else prompt for prompt in prompts]
        alone = self._read(rendered)
        whole = self._read([before + after for before, after in zip(rendered, responses, strict=True)])
        return [self._answered(*row) for row in zip(prompts, responses, alone, whole, strict=True)]

    def decode(self, responses: Sequence[Ids], prompts: Sequence[Ids]) -> list[str]:
        """The text of each response as it stands after its prompt, without special tokens and with spaces as sampled:
        what the decoded whole has more than the decoded prompt.

        Alone, a response would lose the space before its first word with many tokenizers (SentencePiece, WordPiece).
        """
        if self._marks:
            responses = [[index for index in ids if index not in self._marks] for ids in responses]
        if not self._anchor:
            return self._texts(responses)
        behind = [not self._special.issuperset(prompt) for prompt in prompts]
        texts = self._texts([[*self._anchor, *ids] if after else ids
                             for ids, after in zip(responses, behind, strict=True)])
        return [self._without_anchor(text, ids) if after else text
                for text, ids, after in zip(texts, responses, behind, strict=True)]

    def decoder_after(self, prompt: Ids) -> Callable[[Ids], str]:
        """`decode` for responses to one prompt: ids -> text."""
        return lambda ids: self.decode([ids], [prompt])[0]

    # -----------------------------------------------------------------------------------------------------------------

    def _read(self, prompts: list[str]) -> list[list[int]]:
        try:
            with foreign(first_line):  # of a character that they lack, or half of one
                return _bare_ids(self._tokenizer, prompts)
        except ModelError as error:
            for prompt in prompts if len(prompts) > 1 else ():
                self._read([prompt])
            raise PromptError(f"the tokenizer cannot read the prompt {quoted(prompts[0])}: {error}") from error

    def _answered(self, prompt: str, response: str, alone: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
        if prompt:
            before = self._row(prompt, alone, None)
            read = whole if self._chat else [*before[: len(before) - len(alone)], *whole]
            after = read[len(before):] if read[: len(before)] == before else self._behind(before, response)
        else:
            before = self._prefix or ([] if self._start is None else [self._start])
            after = whole[len(before):] if before and whole[: len(before)] == before else whole
            if not before:
                before, after = after[:1], after[1:]
        if after and (highest := max(after)) >= self._rows:
            raise PromptError(f"the text {quoted(response)} has the token {token_name(self._tokenizer, highest)}, but "
                              f"the model has {self._rows} embeddings: ids up to {self._rows - 1}")
        return list(before), after

    def _behind(self, prompt: Ids, response: str) -> list[int]:
        """Ids that decode to the response behind the prompt, whose last token would else melt into its first. Alone
        many a tokenizer puts a space before the first word, and behind another text it does not."""
        (alone, behind) = _bare_ids(self._tokenizer, [response, self._anchor_text + response])
        found = [alone]
        if self._anchor and behind[: len(self._anchor)] == self._anchor:
            found.append(behind[len(self._anchor):])
        decoded = self.decode(found, [prompt] * len(found))
        return next((ids for ids, text in zip(found, decoded, strict=True) if text == response), alone)

    def _row(self, prompt: str, ids: list[int], longest: int | None) -> list[int]:
        prefix = [] if self._chat or (self._prefix and ids[:1] == self._prefix[:1]) else self._prefix
        row = [*prefix, *ids]
        if not row:
            if self._start is None:
                raise PromptError(f"the prompt {quoted(prompt)} has no token, and the model no start token to begin "
                                  "a text with")
            row = [self._start]
        self._require_embedded(prompt, row)
        if longest is not None and len(row) > longest:
            kept = self._prefix if row[: len(self._prefix)] == self._prefix and len(self._prefix) < longest else []
            row = [*kept, *row[len(row) - longest + len(kept) :]]
        return row

    def _require_embedded(self, prompt: str, row: list[int]) -> None:
        if (highest := max(row, default=0)) >= self._rows:
            raise PromptError(f"the prompt {quoted(prompt)} has the token {token_name(self._tokenizer, highest)}, but "
                              f"the model has {self._rows} embeddings: ids up to {self._rows - 1}")

    def _texts(self, rows: Sequence[Ids]) -> list[str]:
        try:
            return self._decode_rows([list(ids) for ids in rows])
        except BaseException as error:
            if not is_panic(error):
                raise
            raise ModelError(f"the tokenizer cannot write what was sampled as text: {first_line(error)}") from error

    def _without_anchor(self, text: str, ids: Ids) -> str:
        return text[len(self._anchor_text) :] if text.startswith(self._anchor_text) else self._texts([ids])[0]

    def _find_anchor(self) -> list[int]:
        """A token that stands for a prompt. It does so for any: decoders tell the first token from the others, and
        otherwise look at neighbours only to put the bytes of one character together, which a prompt holds whole."""
        for row in (*_bare_ids(self._tokenizer, list(_PROBES)), *([index] for index in range(min(self._rows, 1000)))):
            text = self._texts([row])[0]
            if text.strip() and "\N{REPLACEMENT CHARACTER}" not in text:
                return row
        return []


def quoted(prompt: str) -> str:
    """The beginning of a prompt, in quotation marks."""
    return repr(prompt[:_QUOTED]) + ("…" if len(prompt) > _QUOTED else "")


def _bare_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    found = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return [list(ids) for ids in found]


def _decoder_of(tokenizer: Any) -> Callable[[list[list[int]]], list[str]]:
    """What gives the texts of rows of ids, without special tokens and with spaces as they are. Where transformers does
    no more than to ask the library tokenizers, that is asked itself, for all rows at once: most of the time of a call
    through transformers goes into looking at each id."""
    if (getattr(tokenizer.decode, "__func__", None) is PreTrainedTokenizerBase.decode
            and getattr(getattr(tokenizer, "_decode", None), "__func__", None) is PreTrainedTokenizerFast._decode):
        return lambda rows: list(tokenizer.backend_tokenizer.decode_batch(rows, skip_special_tokens=True))
    return lambda rows: [str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
                         for ids in rows]


def _prefix(tokenizer: Any) -> list[int]:
    """What the tokenizer puts in front of a text: a start token, or nothing."""
    for text, bare in zip(_PROBES, _bare_ids(tokenizer, list(_PROBES)), strict=True):
        whole = list(tokenizer(text, verbose=False)["input_ids"])
        places = [at for at in range(len(whole) - len(bare) + 1) if whole[at : at + len(bare)] == bare]
        if bare and places:
            return whole[: places[0]]
    return []


def _joins_alone(tokenizer: Any) -> bool:
    """True for byte-level tokenizers, whose texts are the bytes of their tokens, one after another."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return type(decoder).__name__ == "ByteLevel"
