"""A reward that is somebody's sequence classifier: how sure it is of a label, or the number that it gives.

What it is given is said by `reads`; a text that is too long for it loses the beginning of the prompt, and then of the
response, never the end. `rewards/<name>/truncated` tells how many of a step's texts did.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlhf_engine.config.classifier import ClassifierRewardConfig
from rlhf_engine.errors import ConfigError, ModelError, RewardError, first_line, short
from rlhf_engine.model_folders import remote_code
from rlhf_engine.model_folders.judge_models import judge_digest
from rlhf_engine.models.chat import messages_of
from rlhf_engine.models.classifier import Encoded, SequenceClassifier, load_classifier
from rlhf_engine.models.foreign import foreign
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.rewards.base import Score

_MULTI_LABEL, _REGRESSION = "multi_label_classification", "regression"
# while any reward uses one: a live edit of a weight must not load it anew
_loaded: weakref.WeakValueDictionary[tuple[object, ...], SequenceClassifier] = weakref.WeakValueDictionary()


class ClassifierReward:
    """See `rlhf_engine.rewards.base.Reward` and `RunsModel`. Raises ConfigError where the classifier cannot be had, or
    has no such label. Its weights never change."""

    def __init__(self, config: ClassifierRewardConfig) -> None:
        self.name, self.config = config.name, config
        try:
            self._classifier = _shared(config)
        except ModelError as error:
            raise ConfigError(f"the reward {config.name!r}: {error}") from error
        self._place = _place_of_label(config, self._classifier)
        self._reads = _what_it_reads(config, self._classifier)
        limits = [limit for limit in (config.max_tokens, self._classifier.context) if limit is not None]
        self._most = min(limits, default=None)

    @property
    def model_device(self) -> torch.device:
        """See `RunsModel`."""
        return self._classifier.device

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score | None]:
        """One Score per response; equal texts get equal scores, but for the rounding of their batch."""
        rows, cut = [], []
        for prompt, response in zip(prompts, responses, strict=True):
            row, was_cut = self._encoded(prompt, response)
            rows.append(row)
            cut.append(was_cut)
        scores = self._outputs(rows).tolist()
        return [Score(score, {}, facts={"truncated": float(was_cut)})
                for score, was_cut in zip(scores, cut, strict=True)]

    def _outputs(self, rows: list[Encoded]) -> Tensor:
        """[rows]"""
        try:
            logits = self._classifier.logits(rows, self.config.batch_size)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            at_once = min(len(rows), self.config.batch_size)
            raise RewardError(f"Reward {self.name!r} ran out of memory with {at_once} texts at once; lower its "
                              "batch_size or max_tokens.") from error
        own = logits[:, self._place]
        one_by_one = logits.shape[1] == 1 or self._classifier.kind == _MULTI_LABEL
        match self.config.output:
            case "probability":
                return torch.sigmoid(own) if one_by_one else logits.softmax(dim=1)[:, self._place]
            case "log_prob":
                return logsigmoid(own) if one_by_one else logits.log_softmax(dim=1)[:, self._place]
        return own

    # --- what it reads ---

    def _encoded(self, prompt: str, response: str) -> tuple[Encoded, bool]:
        """The tokens that are judged, and whether some were cut off."""
        tokenizer = self._classifier.tokenizer
        if self._reads == "chat":
            ids = tokenizer(self._conversation(prompt, response), add_special_tokens=False)["input_ids"]
            cut = self._most is not None and len(ids) > self._most
            return Encoded(self._not_empty(ids[-self._most:] if cut and self._most else ids)), cut
        texts = {"text": (prompt + response,), "pair": (prompt, response), "response": (response,)}[self._reads]
        found = self._tokens(*texts)
        if self._most is None or len(found.ids) <= self._most:
            return found, False
        return self._shortened(texts, self._most), True

    def _tokens(self, *texts: str) -> Encoded:
        found = self._classifier.tokenizer(*texts)
        types = found.get("token_type_ids")
        return Encoded(self._not_empty(list(found["input_ids"])), list(types) if types else None)

    def _not_empty(self, ids: list[int]) -> list[int]:
        """An empty text, where nothing is put around texts, is read as its end."""
        tokenizer = self._classifier.tokenizer
        known = (tokenizer.eos_token_id, tokenizer.pad_token_id)
        return ids or [next((token for token in known if token is not None), 0)]

    def _shortened(self, texts: tuple[str, ...], most: int) -> Encoded:
        """What is left of `texts` at the end, within `most` tokens with the special ones: of two the first loses its
        beginning, and only what is left of the second alone if that is too long, too."""
        tokenizer = self._classifier.tokenizer
        room = most - tokenizer.num_special_tokens_to_add(pair=len(texts) == 2)
        last = tokenizer(texts[-1], add_special_tokens=False)["input_ids"]
        two = len(texts) == 2
        if two and len(last) >= room:
            texts = ("", texts[1])
        side = tokenizer.truncation_side
        tokenizer.truncation_side = "left"
        try:
            found = tokenizer(*texts, max_length=most,
                              truncation="only_first" if not two or len(last) < room else "only_second")
        finally:
            tokenizer.truncation_side = side
        types = found.get("token_type_ids")
        return Encoded(list(found["input_ids"]), list(types) if types else None)

    def _conversation(self, prompt: str, response: str) -> str:
        messages = messages_of(prompt)
        if messages[-1]["role"] == "assistant":  # it was to be continued
            *messages, begun = messages
            response = begun["content"] + response
        messages = [*messages, {"role": "assistant", "content": response}]
        try:
            with foreign(first_line):
                return str(self._classifier.tokenizer.apply_chat_template(messages, tokenize=False))
        except ModelError as error:
            raise RewardError(f"Reward {self.name!r}: the chat template of {self.config.model} refuses the prompt "
                              f"{short(repr(prompt), 60)}: {error}.") from error


# ---------------------------------------------------------------------------------------------------------------------


def _shared(config: ClassifierRewardConfig) -> SequenceClassifier:
    digest = judge_digest(config)
    if config.sha256 and digest and config.sha256 != digest:
        raise ConfigError(f"the reward {config.name!r}: {config.model} is no longer the classifier whose SHA-256 "
                          f"begins with {config.sha256[:12]}; sha256 = none takes it as it is now")
    key = (config.source, digest, remote_code.is_trusted(config.source))
    found = _loaded.get(key) if digest else None
    if found is None:
        found = load_classifier(config.source)
        # one of the hub lies here only now
        _loaded[(config.source, judge_digest(config), remote_code.is_trusted(config.source))] = found
    return found


def _place_of_label(config: ClassifierRewardConfig, classifier: SequenceClassifier) -> int:
    """Which output is the score. Raises ConfigError."""
    labels, where = classifier.labels, f"the reward {config.name!r}: label"
    there = ", ".join(short(label, 40) for label in labels[:8]) + (f" and {len(labels) - 8} more" if labels[8:] else "")
    if classifier.kind == _REGRESSION and len(labels) > 1 and config.output != "logit":
        raise ConfigError(f"the reward {config.name!r}: output {config.output} is of labels, and {config.model} gives "
                          "numbers (its problem_type is regression); output = logit takes them as they are")
    if config.label is None:
        if len(labels) == 1:
            return 0
        raise ConfigError(f"{where} says which of the {len(labels)} outputs of {config.model} is good: {there}")
    wanted = config.label.strip()
    exact = [place for place, label in enumerate(labels) if label == wanted]
    alike = [place for place, label in enumerate(labels) if label.casefold() == wanted.casefold()]
    if found := exact or alike:
        return found[0]
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(labels):
        return int(wanted)
    raise ConfigError(f"{where} {short(repr(wanted))} is none of {config.model}, which has {there}")


def _what_it_reads(config: ClassifierRewardConfig, classifier: SequenceClassifier) -> str:
    has_template = bool(getattr(classifier.tokenizer, "chat_template", None))
    if config.reads == "chat" and not has_template:
        raise ConfigError(f"the reward {config.name!r}: reads = chat, and the tokenizer of {config.model} has no chat "
                          "template; take text, pair or response")
    return config.reads if config.reads != "auto" else "chat" if has_template else "text"
