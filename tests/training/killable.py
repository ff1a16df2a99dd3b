"""A small training with everything that could go astray on resuming, in processes that can be
killed: dropout, two optimizers, an average, augmentation in workers, validation, several processes.

`tests/training/test_trainer.py` kills it at three fixed moments, `benchmarks/kill_resume.py` at
many random ones.
"""

import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
from pathlib import Path

import torch
import torch._dynamo  # which the first optimizer of every process would load anew
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

from vidgen_lab.training import checkpoint as checkpoint_module
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.monitor import TIMING
from vidgen_lab.training.optim import OptimizerConfig
from vidgen_lab.training.stream import BatchStream
from vidgen_lab.training.trainer import VideoModelTrainer

CONFIG = TrainingConfig(
    steps=12, seed=3, ema_decay=0.9, log_every=1, validate_every=4, checkpoint_every=3,
    tensorboard=False, measure=False, precision="no",
)  # fmt: skip


class Items(Dataset):
    """Items that are augmented with the generators everybody shares."""

    def __len__(self):
        return 22

    def __getitem__(self, index):
        x = torch.full((6,), index / 22) + 0.1 * torch.randn(6) + 0.1 * random.random()
        return {"x": x, "id": str(index)}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.norm, self.dropout = nn.BatchNorm1d(6), nn.Dropout(0.2)

    def forward(self, x):
        for block in self.blocks:
            x = x + self.dropout(torch.tanh(block(x)))
        return self.norm(x)


class Killer:
    """Kills this process at the n-th time that something happens, or after so many seconds."""

    def __init__(self, moment, number):
        self.moment, self.number = moment, number
        if moment == "time":
            timer = threading.Timer(number, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()

    def __call__(self, moment):
        if moment == self.moment:
            self.number -= 1
            if self.number < 0:
                os.kill(os.getpid(), signal.SIGKILL)


def trainer_in(folder, workers=0, kill=None, **changes):
    torch.manual_seed(7)
    model = Model()
    killer = Killer(*kill) if kill else lambda moment: None

    def loss(model, batch, draw):
        killer("step" if model.training else "validation")
        levels = draw.uniform(len(batch["x"]))[:, None]
        noise = draw.noise(batch["x"])
        losses = (model(batch["x"] + levels * noise) - noise).square().mean(1)
        return losses, {"mean_level": levels}

    write = checkpoint_module.write_files
    checkpoint_module.write_files = lambda files: (killer("checkpoint"), write(files))
    loader = DataLoader(Items(), 4, shuffle=True, num_workers=workers)
    held_out = [{"x": torch.full((3, 6), n / 3)} for n in range(2)]
    config = CONFIG.__class__(**{**vars(CONFIG), **changes})
    return VideoModelTrainer(
        model, loss, loader, folder, config,
        optimizers=OptimizerConfig("muon", 0.01, warmup=3), held_out=held_out,
    )  # fmt: skip


def run(folder, workers=0, processes=1, kill=None, **changes):
    """Train in `folder` in processes of their own; returns the exit status of the first.

    kill: (moment, number): "step", "validation" or "checkpoint", and how many to let pass; or
    "time", and seconds. What is left when one was killed is killed too.
    """
    port = _free_port() if processes > 1 else 0
    children = [start(_train, folder, workers, rank, processes, port, kill if rank == 0 else None,
                      changes) for rank in range(processes)]  # fmt: skip
    children[0].join(1800)
    for child in children[1:]:
        child.join(1 if children[0].exitcode else 60)
    for child in children:
        child.kill()
        child.join()
    return children[0].exitcode


def start(function, *arguments):
    """A process forked from a clean one: this one may have threads, with which forking hangs."""
    child = _fork_server().Process(target=function, args=arguments)
    child.start()
    return child


def _fork_server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.killable"])
    return context


def _train(folder, workers, rank, processes, port, kill, changes):
    if processes > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
    # workers come as in a program of its own, not from a server that would have to load PyTorch
    multiprocessing.set_start_method("fork", force=True)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    trainer_in(folder, workers, kill, **changes).fit()


def hold(folder, held):
    """Keep a run's folder until killed."""
    with trainer_in(folder).run.held():
        held.touch()
        signal.pause()


class Noted(Items):
    """Items that say which process made them."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def __getitem__(self, index):
        (self.folder / str(os.getpid())).touch()
        return super().__getitem__(index)


def load_for_ever(folder):
    """Take batches from two workers of a fork server, until killed."""
    loader = DataLoader(Noted(folder), 4, num_workers=2, multiprocessing_context=_fork_server())
    for _ in BatchStream(loader):
        pass


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def outcome(folder, step=CONFIG.steps):
    """All that a run ends with: weights, average, optimizers, place in the data, numbers logged."""
    path = Path(folder) / "checkpoints" / f"step_{step:08d}"
    tensors = {f"{name}.{n}": t for name in ("model", "ema")
               for n, t in load_file(path / f"{name}.safetensors").items()}  # fmt: skip
    for name in ("optimizer_muon", "optimizer_adamw", "trainer", "processes"):
        tensors |= flat(torch.load(path / f"{name}.pt", weights_only=True), name)
    lines = (Path(folder) / "log.jsonl").read_text().splitlines()
    rows = [{n: v for n, v in json.loads(line).items() if n not in TIMING} for line in lines]
    return tensors, rows


def flat(value, name):
    if isinstance(value, dict):
        return {k: v for n, inner in value.items() for k, v in flat(inner, f"{name}.{n}").items()}
    if isinstance(value, list | tuple):
        return flat(dict(enumerate(value)), name)
    return {name: value}


def equal(one, other):
    """Whether two outcomes are the same to the last bit."""
    (tensors, rows), (others, other_rows) = one, other
    return rows == other_rows and tensors.keys() == others.keys() and all(
        torch.equal(value, others[name]) if isinstance(value, torch.Tensor)
        else value == others[name]
        for name, value in tensors.items()
    )  # fmt: skip
