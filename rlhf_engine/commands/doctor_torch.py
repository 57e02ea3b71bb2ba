"""What torch makes of this machine: its device, and in which number formats it computes there.

torch is imported by the first check, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_engine.commands.check import Check
from rlhf_engine.errors import first_line, short
from rlhf_engine.system.cores import available_cores

if TYPE_CHECKING:
    from rlhf_engine.models.dtype_trial import Trial

_NVIDIA = Path("/dev/nvidiactl")  # there where the driver is
_NAMED = 3  # models of which a trial is told, the newest


def torch_checks(environment: Mapping[str, str]) -> Iterator[Check]:
    """What torch says of itself, of its device and of number formats; a sentence if it cannot be imported."""
    try:
        import torch

        from rlhf_engine.models.loading import choose_device
    except (ImportError, OSError) as error:
        yield Check("torch", "warning", f"cannot be imported: {first_line(error)}",
                    "install it for this machine: pytorch.org")
        return
    yield Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads of {available_cores()} cores")
    device = choose_device("auto")
    yield _device(device)
    kinds = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        try:
            # what an adapter does: a product, and its gradient
            matrix = torch.ones(8, 8, dtype=dtype, device=device, requires_grad=True)
            (matrix @ matrix).sum().backward()
            kinds.append(str(dtype).removeprefix("torch."))
        except RuntimeError:
            continue
    yield Check("number formats", "ok", ", ".join(kinds))
    yield new_runs_take(device.type, environment)


def no_gpu(built_for: str | None, nvidia: bool) -> Check:
    """That torch computes on the processor, and why, where there is something to be done about that.

    built_for: the CUDA or ROCm that torch was built for, as in "CUDA 12.8"; None without. nvidia: the machine has a GPU
    of Nvidia, with its driver.
    """
    if not nvidia:
        return Check("device", "ok", "cpu: torch sees no GPU")
    if built_for is None:
        return Check("device", "warning", "cpu: this machine has an Nvidia GPU, and torch is built without CUDA",
                     "install torch with CUDA: pytorch.org")
    return Check("device", "warning", f"cpu: this machine has an Nvidia GPU, and torch, built for {built_for}, cannot "
                 "use it", "see what nvidia-smi says, whether CUDA_VISIBLE_DEVICES hides it, and which CUDA the driver "
                 "has")


def new_runs_take(device: str, environment: Mapping[str, str], abilities: Mapping[str, Any] | None = None) -> Check:
    """The number format that a new run computes its base in where `model.dtype` is auto, as it is by default, and why.

    device: of torch, by its type. abilities: as `processor` gives them, which is asked if left out.
    """
    import torch

    from rlhf_engine.models.dtype_trial import remembered_here
    from rlhf_engine.models.loading import choose_dtype
    from rlhf_engine.models.processor import multiplies_bfloat16

    def take(dtype: str, why: str = "") -> Check:
        return Check("new runs take", "ok", f"{dtype} with model.dtype = auto{why}")

    if device == "cuda":
        computes = choose_dtype("auto", torch.device(device)) == torch.bfloat16
        return take("bfloat16") if computes else take("float32", ", for this GPU does not compute in bfloat16")
    if device != "cpu":
        return take("float32")
    if not multiplies_bfloat16(abilities, {}):
        return take("float32", ", for the processor has no units for products of bfloat16 (AMX, AVX512-BF16)")
    if not multiplies_bfloat16(abilities, environment):
        return take("float32", ", for ONEDNN_MAX_CPU_ISA keeps torch from the processor's units for bfloat16")
    found = [f"{short(trial.model)}: {_told(trial)}" for trial in remembered_here()[-_NAMED:]]
    return take("bfloat16 or float32", ", whichever a trial of the very model finds faster when a run begins, for the "
                f"processor has units for both; {'tried' if found else 'none was tried'} here so far"
                + (f": {'; '.join(found)}" if found else ""))


# ---------------------------------------------------------------------------------------------------------------------


def _told(trial: Trial) -> str:
    if trial.speed is None:
        return f"{trial.dtype}, for it does not pass its check in bfloat16"
    return f"{trial.dtype}, for bfloat16 is {trial.speed:.1f} times as fast"


def _device(device: Any) -> Check:
    import torch

    if device.type != "cuda":
        built = torch.version.cuda or torch.version.hip
        kind = "CUDA" if torch.version.cuda else "ROCm"
        found = no_gpu(f"{kind} {built}" if built else None, _NVIDIA.exists())
        return found if device.type == "cpu" else Check("device", "ok", str(device))
    facts, count = torch.cuda.get_device_properties(0), torch.cuda.device_count()
    free, _ = torch.cuda.mem_get_info(0)
    return Check("device", "ok", f"cuda: {facts.name}, {facts.total_memory / 2**30:.0f} GiB, {free / 2**30:.0f} GiB of "
                 f"them free, compute capability {facts.major}.{facts.minor}"
                 + (f"; one of {count} is used" if count > 1 else ""))
