"""One frozen base model that plays actor, critic and reference.

The actor is the base with LoRA adapter "actor"; the critic the base with adapter "critic" and a linear value head that
starts at zero; the reference the base with adapters off. Only one copy of the base is in memory.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlhf_engine.adapted_linear import adapt
from rlhf_engine.config import LoraConfig as LoraSettings
from rlhf_engine.config import RunConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.loading import LoadedModel, load_model
from rlhf_engine.text_codec import TextCodec
from rlhf_engine.token_log_probs import TokenLogProbs, chosen_log_probs
from rlhf_engine.tokens import context_length

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
        self.texts = TextCodec(loaded.tokenizer, rows=ids.rows, start_ids=(loaded.tokenizer.bos_token_id, *ids.end))
        self.base, self._head_transform = loaded.model, loaded.head_transform
        self.fingerprint = loaded.fingerprint
        self.max_positions = context_length(self.base)
        self.takes_positions = "position_ids" in inspect.signature(self.base.base_model.forward).parameters
        hidden_size = self.base.get_output_embeddings().weight.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.peft = _add_adapters(self.base, lora)
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
        """Load the model that `config` names and give it fresh adapters."""
        return cls(load_model(config.model), config.lora, seed=config.train.seed)

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
        options: dict[str, Any] = {"past_key_values": cache, "use_cache": cache is not None}
        if self.takes_positions:
            positions = (mask[:, :width].long().cumsum(1) - 1).clamp(min=0)
            options["position_ids"] = positions[:, -ids.shape[1] :]
        output = self.base.base_model(input_ids=ids, attention_mask=mask.long(), **options)
        return output.last_hidden_state

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


def _add_adapters(model: Any, lora: LoraSettings) -> PeftModel:
    targets = lora.target_modules or attention_projections(model)
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
            peft = get_peft_model(model, settings, adapter_name="actor")
            peft.add_adapter("critic", settings)
    except ValueError as error:
        head = model.get_output_embeddings()
        linear = {name: module for name, module in model.named_modules() if _is_linear(module) and module is not head}
        leaves = sorted({name.rpartition(".")[2] for name in linear})
        raise ModelError(
            f"lora.target_modules: {', '.join(targets)} does not fit {type(model).__name__}; "
            f"its linear modules are {', '.join(leaves)}"
        ) from error
    if isinstance(model.get_output_embeddings(), BaseTunerLayer):
        raise ModelError("lora.target_modules: the output head cannot be adapted, for log-probs are taken past it")
    return peft


def attention_projections(model: nn.Module) -> list[str]:
    """Full names of the linear modules inside attention blocks, whatever the architecture calls them."""
    names = [
        name
        for name, module in model.named_modules()
        if _is_linear(module) and any("attn" in part or "attention" in part for part in name.lower().split("."))
    ]
    if not names:
        raise ModelError(
            f"no attention projections found in {type(model).__name__}; name modules in lora.target_modules"
        )
    return names


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)
