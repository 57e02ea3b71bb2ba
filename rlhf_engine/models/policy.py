"""One frozen base model that plays actor, critic and reference.

The actor is the base with LoRA adapter "actor"; the critic the base with adapter "critic" and a linear value head that
starts at zero; the reference the base with adapters off. Only one copy of the base is in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import transformers_weight_conversion
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import LoraConfig as LoraSettings
from rlhf_engine.config.sections import ModelConfig
from rlhf_engine.errors import ModelError, first_line
from rlhf_engine.models.adapted_linear import adapt
from rlhf_engine.models.loading import LoadedModel, cannot_use, load_model, told
from rlhf_engine.models.passed_checks import check_once
from rlhf_engine.models.target_modules import choose_targets, leaves
from rlhf_engine.models.text_codec import TextCodec
from rlhf_engine.models.text_pass import body_of, hidden_states, takes
from rlhf_engine.models.token_log_probs import TokenLogProbs, chosen_log_probs
from rlhf_engine.models.tokens import context_length

Role = Literal["actor", "critic", "reference"]

_HEAD_COPY_BYTES = 16 * 1024 * 1024
_FEW_ROWS = 32


class Policy:
    """Actor, critic and reference on one base. Not thread-safe: one thread owns it."""

    def __init__(self, loaded: LoadedModel, lora: LoraSettings, *, seed: int) -> None:
        """Adds both adapters and the value head to the model. Raises ModelError if nothing can be adapted."""
        self.tokenizer, self.device, self.dtype = loaded.tokenizer, loaded.device, loaded.dtype
        ids = loaded.ids
        self.end_ids, self.pad_id, self.banned, self.notices = ids.end, ids.pad, ids.banned, ids.notices
        self.texts = TextCodec(loaded.tokenizer, rows=ids.rows, end_ids=ids.end)
        self.base, self._head_transform = loaded.model, loaded.text.head_transform
        self.text_parameters = loaded.text.parameters
        self.fingerprint = loaded.fingerprint
        self.max_positions = context_length(self.base)
        self.body = body_of(self.base)
        names = takes(self.body)
        self.takes_positions, self.caches = "position_ids" in names, "past_key_values" in names
        self._takes_use_cache = "use_cache" in names
        self.why_uncached = ""
        """Why decoding does without a cache; empty while it uses one."""
        hidden_size = self.base.get_output_embeddings().weight.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.peft = _add_adapters(self.base, lora, loaded.text.linear)
            self.value_head = nn.Linear(hidden_size, 1, device=self.device, dtype=torch.float32)
        nn.init.zeros_(self.value_head.weight)  # first values are 0: a random critic would be noise in every advantage
        nn.init.zeros_(self.value_head.bias)
        self._layers = [module for module in self.peft.modules() if isinstance(module, BaseTunerLayer)]
        self.adapted = adapt(self._layers)
        self._dropouts = [
            module
            for layer in self._layers
            for module in layer.lora_dropout.modules()
            if isinstance(module, nn.Dropout)
        ]
        self.actor_parameters = {name: p for name, p in self.peft.named_parameters() if ".actor." in name}
        self.critic_parameters = {name: p for name, p in self.peft.named_parameters() if ".critic." in name}
        self.critic_parameters |= {f"value_head.{name}": p for name, p in self.value_head.named_parameters()}
        self.peft.eval()
        self._role: Role | None = None
        self._play("actor")

    @classmethod
    def from_config(cls, config: RunConfig) -> Policy:
        """Load the model that `config` names and give it fresh adapters; see `load`."""
        return cls.load(config.model, config.lora, seed=config.train.seed)

    @classmethod
    def load(cls, model: ModelConfig, lora: LoraSettings, *, seed: int) -> Policy:
        """Load a model, give it fresh adapters, and check that this engine reads it as it reads itself. Raises
        ModelError, one sentence, if it does not."""
        loaded = load_model(model)
        with told(model, loaded.device, loaded.dtype):
            policy = cls(loaded, lora, seed=seed)
        try:
            policy.why_uncached = check_once(policy, loaded.fingerprint.hex if loaded.fingerprint else None)
        except ModelError as error:
            raise ModelError(cannot_use(model, error)) from error
        if policy.why_uncached:
            policy.notices = (*policy.notices, policy.why_uncached)
        return policy

    # --- roles ---

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Adapters off inside; the role before is back afterwards, after an exception too."""
        with self.playing("reference"):
            yield

    @contextmanager
    def playing(self, role: Role) -> Iterator[None]:
        """The model answers as `role` inside."""
        before = self._role or "actor"
        self._play(role)
        try:
            yield
        finally:
            self._play(before)

    @contextmanager
    def wearing(self, adapter: Mapping[str, Tensor], scaling: float) -> Iterator[None]:
        """The actor has another adapter of the same shapes inside, by the names of `actor_parameters`; its own is back
        bit for bit afterwards, after an exception too. Weights merged from it before must be merged anew inside.
        """
        kept = {name: parameter.detach().clone() for name, parameter in self.actor_parameters.items()}
        scalings = [layer.scaling["actor"] for layer in self._layers]
        try:
            for layer in self._layers:
                layer.scaling["actor"] = scaling
            self._put_on(adapter)
            yield
        finally:
            self._put_on(kept)
            for layer, before in zip(self._layers, scalings, strict=True):
                layer.scaling["actor"] = before

    def _put_on(self, adapter: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.actor_parameters.items():
                parameter.copy_(adapter[name])

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

    def _play(self, role: Role) -> None:
        if role == self._role:
            return
        for layer in self._layers:
            layer.enable_adapters(role != "reference")
            if role != "reference":
                layer.set_adapter(role)
        # peft freezes the adapters that do not play; ours stay trainable, the optimisers say what learns
        for parameter in (*self.actor_parameters.values(), *self.critic_parameters.values()):
            parameter.requires_grad_(True)
        self._role = role

    # --- numbers ---

    @property
    def parameter_count(self) -> int:
        """Parameters of the frozen base."""
        return sum(p.numel() for p in self.base.parameters() if not p.requires_grad)

    @property
    def trainable_count(self) -> int:
        """Parameters of both adapters and the value head."""
        return sum(p.numel() for p in (*self.actor_parameters.values(), *self.critic_parameters.values()))

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
        return ids.to(self.device), mask.to(self.device)

    # --- passes ---

    def forward(self, ids: Tensor, mask: Tensor, cache: Any = None, *, width: int | None = None) -> Tensor:
        """Hidden states [batch, ids' time, hidden] in the role being played.

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

    def next_logits(self, hidden: Tensor, temperature: float) -> Tensor:
        """float32 logits [batch, vocabulary] / temperature from hidden [batch, hidden]; banned ids are −inf."""
        weight, bias = self._decoding_head
        if weight.is_contiguous() or len(hidden) > _FEW_ROWS or self.device.type != "cpu":
            logits = torch.addmm(bias, hidden, weight).float()
        else:  # W hᵀ instead of h Wᵀ: for few rows and a weight that lies by rows, the faster order by a third
            shape = (len(hidden), weight.shape[1])
            logits = torch.add((weight.t() @ hidden.t()).t(), bias, out=bias.new_empty(shape)).float()
        logits = self._head_transform.apply(logits)
        if temperature != 1.0:
            logits = logits.div_(temperature)
        return logits if self.banned is None else logits.masked_fill_(self.banned, float("-inf"))

    @cached_property
    def _decoding_head(self) -> tuple[Tensor, Tensor]:
        """The head's weight as [hidden, vocabulary], and its bias.

        On a CPU a copy that is laid out so, unless it is large: for the few rows of a decoding step MKL multiplies with
        it in a quarter of the time on two threads, and in four fifths on one.
        """
        head = self.base.get_output_embeddings()
        weight, bias = head.weight.t(), getattr(head, "bias", None)
        if self.device.type == "cpu" and weight.numel() * weight.element_size() <= _HEAD_COPY_BYTES:
            weight = weight.contiguous()
        return weight, bias if bias is not None else weight.new_zeros(weight.shape[1])

    def log_probs(
        self,
        role: Role,
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
        with self.playing(role):
            hidden = self.forward(ids, mask)[:, -response_width - 1 : -1]
        head = self.base.get_output_embeddings()
        return chosen_log_probs(
            hidden,
            head.weight,
            getattr(head, "bias", None),
            ids[:, -response_width:],
            temperature=temperature,
            banned=self.banned,
            transform=self._head_transform,
            with_entropy=with_entropy,
        )

    def values(self, ids: Tensor, mask: Tensor, response_width: int, *, after: bool = False) -> Tensor:
        """The critic's values, float32 [batch, response_width].

        Column t is the value of the state before response token t was chosen (it cannot see that token), or with
        `after` the value once token t stands.
        """
        with self.playing("critic"):
            hidden = self.forward(ids, mask)
        states = hidden[:, -response_width:] if after else hidden[:, -response_width - 1 : -1]
        return self.value_head(states.float()).squeeze(-1)


def _add_adapters(model: Any, lora: LoraSettings, linear: Sequence[str]) -> PeftModel:
    targets = choose_targets(model, linear, lora.target_modules)
    transposed = any(isinstance(module, Conv1D) for module in model.modules())  # GPT-2 stores its matrices so
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft asks transformers in ways that are on their way out
            with _names_as_they_are():
                peft = get_peft_model(model, settings, adapter_name="actor")
                peft.add_adapter("critic", settings)
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"lora.target_modules: peft puts no adapters on these modules of {type(model).__name__} "
                         f"({first_line(error)}); its linear modules are {leaves(linear)}") from error
    adapted = {name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    if adapted != set(targets):
        raise ModelError(f"lora.target_modules: peft puts adapters on other modules of {type(model).__name__} than "
                         f"those meant: {', '.join(sorted(adapted ^ set(targets))[:3])}")
    return peft


@contextmanager
def _names_as_they_are() -> Iterator[None]:
    """peft takes names inside for those of this very model. Else it reads some as those that mixtures of experts had
    before transformers 5, and adapts all experts for a module that is none."""
    before = transformers_weight_conversion.convert_peft_config_for_transformers
    transformers_weight_conversion.convert_peft_config_for_transformers = lambda *_, **__: None
    try:
        yield
    finally:
        transformers_weight_conversion.convert_peft_config_for_transformers = before
