"""Several processes: how gradients, shards and numbers travel. Every function works with one.

Which processes there are is decided outside, by `accelerate launch` or `torchrun`. On CPUs they
talk through gloo, so that all of this runs, and is tested, without a GPU.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import recursively_apply
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from vidgen_lab.training.optim import learnt_state, repeated, trainable
from vidgen_lab.training.stream import Draw

Numbers = Mapping[str, float | Tensor]
Loss = Callable[[nn.Module, Any, Draw], Tensor | tuple[Tensor, Numbers]]


class Task(nn.Module):
    """Model and loss as one module: what DDP wraps, so that a loss may call any of the model's
    methods and its gradients are still averaged."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Any, draw: Draw) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(mean loss, loss per sample [B] or one number [], other numbers); TypeError for a loss
        that gives something else."""
        out = self.loss(self.model, batch, draw)
        losses, numbers = out if isinstance(out, tuple) else (out, {})
        if not isinstance(losses, Tensor) or not isinstance(numbers, Mapping):
            raise TypeError(
                "a loss gives a tensor, one number a sample [B] or their mean, or a pair of it and "
                f"{{name: number}} for the log, not {type(out).__name__}"
            )
        detached = {n: torch.as_tensor(v).detach().float() for n, v in numbers.items()}
        return losses.mean(), losses.detach().float(), detached


def accelerator(device: str = "auto") -> Accelerator:
    """The processes and the device that this one has. ValueError for a GPU that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but PyTorch finds no GPU here: take device=auto or cpu")
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    # without a GPU accelerate sees several processes only if it is told that they are on CPUs
    return Accelerator(cpu=device == "cpu" or (several and not torch.cuda.is_available()))


def active() -> bool:
    """Whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def parallel(task: Task, device: torch.device, strategy: str = "auto") -> nn.Module:
    """The module as it is called: its model sharded ("fsdp"), else in DDP, in one process as it is.

    A model of which a step may leave parts out says so: `leaves_out = True` (see `TwoExperts`).
    """
    task.to(device)
    if strategy == "fsdp":
        shard(task.model)  # and not the task: `evaluate` and `sample` call the model alone
    elif active():
        own = [device] if device.type == "cuda" else None
        leaves_out = getattr(task.model, "leaves_out", False)
        return DistributedDataParallel(task, own, find_unused_parameters=leaves_out)
    return task


def shard(model: nn.Module) -> nn.Module:
    """FSDP2: cut every parameter into one part a process, stack by stack, then the rest.

    A block's weights are whole only while it computes. Sharding happens in place; one process
    without a process group is refused with ValueError.
    """
    if not dist.is_initialized():
        raise ValueError("strategy=fsdp needs processes: start with torchrun or accelerate launch")
    kind = "cuda" if torch.cuda.is_available() and dist.get_backend() == "nccl" else "cpu"
    mesh = dist.init_device_mesh(kind, (dist.get_world_size(),))
    for block in list(repeated(model)):
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def is_sharded(task: nn.Module) -> bool:
    """Whether FSDP2 has cut the parameters of the task's model among the processes."""
    return isinstance(task, Task) and isinstance(task.model, FSDPModule)


def no_sync(task: nn.Module) -> AbstractContextManager[Any]:
    """Add gradients up locally within the block."""
    if isinstance(task, DistributedDataParallel):
        return task.no_sync()
    block = ExitStack()
    if is_sharded(task):
        task.model.set_requires_gradient_sync(False)
        block.callback(task.model.set_requires_gradient_sync, True)
    return block


def clip_grad_norm(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """Scale all processes' gradients to a norm of at most `limit`; returns the norm before."""
    norm = nn.utils.clip_grad_norm_(list(parameters), limit)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


# numbers ----------------------------------------------------------------------------------------


def gathered(value: Any) -> list[Any]:
    """Every process's value, by rank; all must ask for it."""
    if not active():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def added(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sums over the processes by name, on the CPU; some processes may lack some names."""
    parts = gathered({name: value.cpu() for name, value in sums.items()})
    names = sorted(set().union(*parts))
    return {name: sum(part[name] for part in parts if name in part) for name in names}


def share_buffers(model: nn.Module) -> None:
    """Give all processes the first one's running statistics, which its checkpoint has."""
    if active():
        learning = trainable(model)
        for name, value in learnt_state(model).items():
            if name not in learning and value.is_floating_point():
                dist.broadcast(value, 0)


# shards -----------------------------------------------------------------------------------------


def full(state: Any) -> Any:
    """The same nested state with whole tensors instead of shards."""
    return recursively_apply(
        DTensor.full_tensor, state, test_type=lambda value: isinstance(value, DTensor)
    )


@torch.no_grad()
def load_full(own: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into these of the same names and shapes, of which each process may have a
    part."""
    for name, target in own.items():
        target.copy_(_like(whole[name], target))


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """What an optimizer has gathered, as whole tensors, also into one of shards.

    Learning rate, decay and the like stay its own: a resumed run that changed them shall have them.
    """
    own = [{n: v for n, v in group.items() if n != "params"} for group in optimizer.param_groups]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, values in state["state"].items():
        of = parameters[number]
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == of.shape:
                values[name] = _like(value, of)
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group |= {"initial_lr": settings["lr"]} | settings


def _like(value: Tensor, target: Tensor) -> Tensor:
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
