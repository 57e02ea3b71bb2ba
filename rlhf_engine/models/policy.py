"""One frozen base model in all the roles that a method needs, with a LoRA adapter for each that learns.

PPO's actor is the base with adapter "actor", its critic the base with adapter "critic" and a linear head, the reference
the base with adapters off. Only one copy of the base is in memory, and of adapters and heads those that are needed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rlhf_engine.config.methods.base import REFERENCE, Needs
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import LoraConfig as LoraSettings
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.models.adapted_linear import adapt
from rlhf_engine.models.adapters import add_adapters, weights_of
from rlhf_engine.models.compiled import why_plain
from rlhf_engine.models.language_head import LanguageHead
from rlhf_engine.models.loading import LoadedModel, cannot_use, load_model, told
from rlhf_engine.models.passed_checks import check_once
from rlhf_engine.models.text_codec import TextCodec
from rlhf_engine.models.text_pass import body_of, hidden_states, takes
from rlhf_engine.models.token_log_probs import TokenLogProbs
from rlhf_engine.models.tokens import context_length

_TRIAL_SHAPE = 64, 9  # rows and tokens of what compiled functions are tried with


class Policy:
    """A base model with the adapters and heads of a method. Not thread-safe: one thread owns it.

    A role is the name of an adapter, or "reference": the base with adapters off. Outside of `as_role` the model answers
    as `default_role`.
    """

    def __init__(self, loaded: LoadedModel, lora: LoraSettings, needs: Needs, *, seed: int) -> None:
        """Adds the adapters and heads that `needs` names, and no others. Raises ModelError if nothing can be
        adapted."""
        self.tokenizer, self.device, self.dtype = loaded.tokenizer, loaded.device, loaded.dtype
        ids = loaded.ids
        self.end_ids, self.pad_id, self.banned, self.notices = ids.end, ids.pad, ids.banned, ids.notices
        self.texts = TextCodec(loaded.tokenizer, rows=ids.rows, end_ids=ids.end)
        self.base = loaded.model
        self.text_parameters = loaded.text.parameters
        self.fingerprint = loaded.fingerprint
        self.max_positions = context_length(self.base)
        self.body = body_of(self.base)
        names = takes(self.body)
        self.takes_positions, self.caches = "position_ids" in names, "past_key_values" in names
        self._takes_use_cache = "use_cache" in names
        self.why_uncached = ""
        """Why decoding does without a cache; empty while it uses one."""
        self.check_seconds = 0.0
        """What its check took when it was loaded; next to nothing where it had passed before."""
        self._head = LanguageHead(self.base, self.banned, loaded.text.head_transform,
                                  compiles=loaded.compiled is not None)
        self._compiled = (*(loaded.compiled or ()), *self._head.compiled)
        self.default_role = "actor" if needs.answers else next(iter(needs.adapters), REFERENCE)
        hidden_size = self.base.get_output_embeddings().weight.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = add_adapters(self.base, lora, loaded.text.linear, needs.adapters) if needs.adapters else self.base
            self.heads = {name: nn.Linear(hidden_size, 1, bias=needs.head_bias, device=self.device, dtype=torch.float32)
                          for name, _ in needs.heads}
            """From hidden states to one number, by name."""
        for head in self.heads.values():
            nn.init.zeros_(head.weight)  # first values are 0: a random critic would be noise in every advantage
            if head.bias is not None:
                nn.init.zeros_(head.bias)
        self._role_of = dict(needs.heads)
        self._layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
        self.adapted = adapt(self._layers)
        self._dropouts = [
            module
            for layer in self._layers
            for module in layer.lora_dropout.modules()
            if isinstance(module, nn.Dropout)
        ]
        self.adapters = {adapter: weights_of(model, adapter) for adapter in needs.adapters}
        """What learns, by adapter and name: its LoRA weights, and those of the heads that read it."""
        for head_name, adapter in needs.heads:
            self.adapters[adapter] |= {
                f"{head_name}_head.{name}": parameter for name, parameter in self.heads[head_name].named_parameters()
            }
        model.eval()
        self._role = ""
        self._set_role(self.default_role)

    @classmethod
    def from_config(cls, config: RunConfig, needs: Needs | None = None) -> Policy:
        """Load the model that `config` names, with what its method needs unless `needs` says otherwise; see `load`."""
        policy = cls.load(config.model, config.lora, needs or config.algorithm.needs, seed=config.train.seed)
        if config.data.chat_template:
            policy.texts.use_chat_template(config.data.system)
        return policy

    @classmethod
    def load(cls, model: ModelConfig, lora: LoraSettings, needs: Needs, *, seed: int) -> Policy:
        """Load a model, give it fresh adapters and heads, and check that this engine reads it as it reads itself.
        Raises ModelError, one sentence, if it does not."""
        loaded = load_model(model)
        with told(model, loaded.device, loaded.dtype):
            policy = cls(loaded, lora, needs, seed=seed)
        started = time.perf_counter()
        try:
            policy.why_uncached = check_once(policy, loaded.fingerprint.hex if loaded.fingerprint else None)
        except ModelError as error:
            raise ModelError(cannot_use(model, error)) from error
        policy.check_seconds = time.perf_counter() - started - policy.compile_seconds
        if policy.why_uncached:
            policy.notices = (*policy.notices, policy.why_uncached)
        policy._compile()
        return policy

    def _compile(self) -> None:
        """Let all that is to be compiled have been tried, in a pass as an update's. What did not work is told in
        `notices`."""
        if not self._compiled:
            return
        rows, tokens = _TRIAL_SHAPE
        ids = torch.full((rows, tokens), self.pad_id, device=self.device)
        hidden = self.forward(ids, torch.ones_like(ids, dtype=torch.bool))
        self.chosen_log_probs(hidden[:, :-1], ids[:, 1:], 1.0, with_entropy=True)
        self.next_probabilities(hidden.detach().flatten(0, 1), 1.0)
        self.notices = (*self.notices, *why_plain(self._compiled))

    @property
    def compile_seconds(self) -> float:
        """What compiling took until now."""
        return sum(function.seconds for function in self._compiled)

    # --- roles ---

    @contextmanager
    def as_role(self, role: str) -> Iterator[None]:
        """The model answers as `role` inside; the role before is back afterwards, after an exception too."""
        before = self._role
        self._set_role(role)
        try:
            yield
        finally:
            self._set_role(before)

    @property
    def role(self) -> str:
        """What the model answers as now."""
        return self._role

    @contextmanager
    def with_adapter(self, adapter: str, weights: Mapping[str, Tensor], scaling: float) -> Iterator[None]:
        """That adapter has other weights of the same shapes inside, by the names of `adapters`; its own are back bit
        for bit afterwards, after an exception too. Weights merged from it before must be merged anew inside.
        """
        kept = {name: parameter.detach().clone() for name, parameter in self.adapters[adapter].items()}
        scalings = [layer.scaling[adapter] for layer in self._layers]
        try:
            for layer in self._layers:
                layer.scaling[adapter] = scaling
            self._load_adapter(adapter, weights)
            yield
        finally:
            self._load_adapter(adapter, kept)
            for layer, before in zip(self._layers, scalings, strict=True):
                layer.scaling[adapter] = before

    def _load_adapter(self, adapter: str, weights: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.adapters[adapter].items():
                parameter.copy_(weights[name])

    @contextmanager
    def as_peft(self) -> Iterator[None]:
        """Adapters are computed by peft inside, not by this engine's faster way."""
        for linear in self.adapted:
            linear.as_peft = True
        try:
            yield
        finally:
            for linear in self.adapted:
                linear.as_peft = False

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Dropout inside the adapters (if the config asks for any) is active inside; nowhere else is there any."""
        for module in self._dropouts:
            module.train()
        try:
            yield
        finally:
            for module in self._dropouts:
                module.eval()

    def _set_role(self, role: str) -> None:
        if role == self._role:
            return
        if role != REFERENCE and role not in self.adapters:
            raise KeyError(f"there is no adapter {role!r}, only {', '.join(self.adapters) or 'none'}")
        for layer in self._layers:
            layer.enable_adapters(role != REFERENCE)
            if role != REFERENCE:
                layer.set_adapter(role)
        # peft freezes the adapters that are not active; ours stay trainable, the optimisers say what learns
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        self._role = role

    # --- numbers ---

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that learns, as checkpoints name it: adapter/name."""
        return {f"{adapter}/{name}": parameter
                for adapter, parameters in self.adapters.items() for name, parameter in parameters.items()}

    @property
    def parameter_count(self) -> int:
        """Parameters of the frozen base."""
        return sum(p.numel() for p in self.base.parameters() if not p.requires_grad)

    @property
    def trainable_count(self) -> int:
        """Parameters of all adapters and heads."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    # --- text ---

    def encode(self, prompts: list[str], longest: int | None = None) -> tuple[Tensor, Tensor]:
        """Prompts as left-padded ids and mask, int64 and bool [batch, longest]; see `TextCodec.encode`."""
        rows = self.texts.encode(prompts, longest)
        width = max(len(row) for row in rows)
        ids = torch.full((len(rows), width), self.pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.bool)
        for index, row in enumerate(rows):
            ids[index, width - len(row) :] = torch.tensor(row, dtype=torch.long)
            mask[index, width - len(row) :] = True
        # a GPU goes on with what it is at meanwhile
        return ids.to(self.device, non_blocking=True), mask.to(self.device, non_blocking=True)

    # --- passes ---

    def forward(self, ids: Tensor, mask: Tensor, cache: Any = None, *, width: int | None = None) -> Tensor:
        """Hidden states [batch, ids' time, hidden] in the role set by `as_role`.

        ids: int64 [batch, time]; mask: bool [batch, cached time + time], False on padding, left or right. For a cache
        of fixed length the mask is as long as the cache, and `width` tells how many of its columns stand after `ids`.
        Positions count real tokens only (the mask's cumulative sum), so padding changes nothing.
        """
        options: dict[str, Any] = {"use_cache": cache is not None} if self._takes_use_cache else {}
        if self.caches:
            options["past_key_values"] = cache
        if self.takes_positions:
            positions = (mask[:, :width].long().cumsum(1) - 1).clamp(min=0)
            options["position_ids"] = positions[:, -ids.shape[1] :]
        output = self.body(input_ids=ids, attention_mask=mask.long(), **options)
        return hidden_states(output)

    def forward_packed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Hidden states [batch, time, hidden] of rows that hold several texts behind one another, of which none sees
        another; see `packing`.

        ids, positions: int64 [batch, time]; positions count anew from 0 where a text begins, and are 0 on padding.
        """
        options = {"use_cache": False} if self._takes_use_cache else {}
        # without a mask transformers reads in the positions where a text begins
        return hidden_states(self.body(input_ids=ids, attention_mask=None, position_ids=positions, **options))

    def next_logits(self, hidden: Tensor, temperature: float) -> Tensor:
        """float32 logits [batch, vocabulary] / temperature from hidden [batch, hidden]; banned ids are −inf."""
        return self._head.next_logits(hidden, temperature)

    def next_probabilities(self, hidden: Tensor, temperature: float) -> Tensor:
        """float32 [batch, vocabulary] from hidden [batch, hidden]: the softmax of `next_logits`."""
        found = self._head.next_probabilities(hidden, temperature)
        return self.next_logits(hidden, temperature).softmax(dim=-1) if found is None else found

    @property
    def vocabulary(self) -> int:
        """Rows of the head: how many logits it gives."""
        return self._head.vocabulary

    def log_probs(
        self,
        role: str,
        ids: Tensor,
        mask: Tensor,
        response_width: int,
        temperature: float,
        *,
        with_entropy: bool = False,
    ) -> TokenLogProbs:
        """log π(token), and entropy if asked for, of the last `response_width` tokens, float32 [batch, response_width].

        Of the distribution sampled from: logits / temperature, banned ids left out. Entropy carries no gradient.
        Values on padded positions are meaningless: mask them.
        """
        with self.as_role(role):
            hidden = self.forward(ids, mask)[:, -response_width - 1 : -1]
        return self.chosen_log_probs(hidden, ids[:, -response_width:], temperature, with_entropy=with_entropy)

    def chosen_log_probs(
        self, hidden: Tensor, chosen: Tensor, temperature: float, *, with_entropy: bool = False
    ) -> TokenLogProbs:
        """log π of the tokens `chosen` [...] after the states `hidden` [..., hidden]: as `log_probs`, without a pass
        through the body."""
        return self._head.chosen_log_probs(hidden, chosen, temperature, with_entropy=with_entropy)

    def head_values(self, head: str, ids: Tensor, mask: Tensor, response_width: int, *, after: bool = False) -> Tensor:
        """What a head says of the last `response_width` tokens, float32 [batch, response_width].

        Column t is the value of the state before response token t was chosen (it cannot see that token), or with
        `after` the value once token t stands.
        """
        with self.as_role(self._role_of[head]):
            hidden = self.forward(ids, mask)
        states = hidden[:, -response_width:] if after else hidden[:, -response_width - 1 : -1]
        values: Tensor = self.heads[head](states.float()).squeeze(-1)
        return values
