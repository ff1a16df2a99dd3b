"""Two processes give what one gives: shards, and attention over a sequence that is cut in two."""

import os
import sys
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from tests.training import killable
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.objectives import TwoExperts
from vidgen_lab.training.optim import OptimizerConfig
from vidgen_lab.training.parallel.context import (
    cut_sequence,
    ring_attention,
    ulysses_attention,
    whole_sequence,
)
from vidgen_lab.training.trainer import VideoModelTrainer

CONFIG = TrainingConfig(
    steps=4, precision="no", tensorboard=False, measure=False, log_every=1, checkpoint_every=2,
    ema_decay=0.9, validate_every=1,
)  # fmt: skip


class Block(nn.Module):
    """Attention and an MLP over tokens [B, N, 8]."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out, self.mlp = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x, attend):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)  # [B, 2, N, 4] each
        x = x + self.out(attend(q, k, v).transpose(1, 2).flatten(2))
        return x + torch.tanh(self.mlp(x))


def block_and_tokens():
    torch.manual_seed(0)
    return Block().double(), torch.randn(2, 6, 8, dtype=torch.float64)


def gradients_of(attend, cut):
    """Output, and gradients of tokens and parameters, of one block."""
    block, tokens = block_and_tokens()
    tokens.requires_grad_()
    own = cut_sequence(tokens) if cut else tokens
    out = block(own, attend)
    whole = whole_sequence(out) if cut else out
    # the loss is of the whole clip; each process counts it for its share
    (whole.square().sum() / (dist.get_world_size() if cut else 1)).backward()
    grads = [tokens.grad, *(p.grad for p in block.parameters())]
    for grad in grads if cut else ():
        dist.all_reduce(grad)
    return [whole.detach(), *grads]


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.blocks = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))
        self.head = nn.Linear(5, 5)

    def forward(self, x):
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.head(x)


def trained(folder, **changes):
    """Two steps, and two more from their checkpoint."""
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randn(4, 5, generator=generator) for _ in range(6)]

    def loss(model, batch, draw):
        return (model(batch) - batch.sin()).square().mean(1)

    for steps in (2, 4):
        result = VideoModelTrainer(
            Stack(), loss, batches, folder, replace(CONFIG, steps=steps, **changes),
            optimizers=OptimizerConfig(learning_rate=0.01, warmup=0), held_out=batches[:3],
            evaluate=lambda model: {"alone": model(batches[0]).square().mean()},
        ).fit(allow=["training.steps"])  # fmt: skip
    return [[row[n] for row in result.history if n in row] for n in ("loss", "held_out", "alone")]


def experts_trained(folder, **changes):
    """Two experts on batches of one sample, so that one of them is idle, or both in turn are; the
    loss has another number in every second micro-batch."""
    generator = torch.Generator().manual_seed(3)
    batches = [{"id": [str(n)], "x": torch.randn(1, 5, generator=generator)} for n in range(6)]

    class Told(Stack):
        def forward(self, x, t):
            return super().forward(F.dropout(x, 0.2, self.training))

    def loss(model, batch, draw):
        level = draw.uniform(1)
        losses = (model(batch["x"], level * 1000) - batch["x"].sin()).square().mean(1)
        return losses, {f"of_{'even' if draw.number % 2 == 0 else 'odd'}": losses}

    result = VideoModelTrainer(
        TwoExperts(Told(), Told(), 0.5), loss, batches, folder,
        replace(CONFIG, steps=6, validate_every=0, **changes),
        optimizers=OptimizerConfig(learning_rate=0.05, warmup=0),
    ).fit()  # fmt: skip
    return [[row[n] for row in result.history] for n in ("loss", "of_even", "of_odd", "grad_norm")]


def work(folder, rank, port, world):
    """In each of two processes: all that must agree, written down by the first."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    dist.init_process_group("gloo")
    kinds = {"ulysses": ulysses_attention, "ring": ring_attention}
    found = {name: gradients_of(attend, cut=True) for name, attend in kinds.items()}
    found["losses"] = trained(folder / "fsdp", strategy="fsdp")
    for strategy in ("fsdp", "ddp"):
        found[f"experts {strategy}"] = experts_trained(
            folder / f"two {strategy}", strategy=strategy
        )
    if rank == 0:
        torch.save(found, folder / "found.pt")
    dist.barrier()
    os._exit(0)  # gloo's threads outlive DDP and may abort a process that goes to its very end


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("two"), killable._free_port()
    children = [killable.start(work, folder, rank, port, 2) for rank in (0, 1)]
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    return folder, torch.load(folder / "found.pt")


@pytest.mark.parametrize("kind", ["ulysses", "ring"])
def test_attention_over_a_cut_sequence_is_attention(two, kind):
    for one, other in zip(
        two[1][kind], gradients_of(F.scaled_dot_product_attention, False), strict=True
    ):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_shards_train_as_one_process_does_and_come_back_from_whole_checkpoints(two, tmp_path):
    folder, found = two
    losses = trained(tmp_path, accumulation=2)
    for one, other in zip(found["losses"], losses, strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    for name in ("model", "ema"):
        file = f"checkpoints/step_00000004/{name}.safetensors"
        shards, whole = load_file(folder / "fsdp" / file), load_file(tmp_path / file)
        assert shards.keys() == whole.keys()
        assert all(torch.allclose(shards[n], whole[n], atol=1e-6) for n in whole)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_an_expert_that_one_process_has_no_sample_for_learns_as_in_one_process(
    two, tmp_path, strategy
):
    alone = experts_trained(tmp_path, accumulation=2)
    for one, other in zip(two[1][f"experts {strategy}"], alone, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
