"""Batches without end, of which the n-th is the same in every run.

A training that shall be resumed exactly must know which batches it has had, and get the others as
if nothing had happened. Here a batch depends on (seed, its number) alone: not on the number of
workers or processes, nor on how often the run was stopped.
"""

import itertools
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, IterableDataset

Data = DataLoader | Iterable[Any] | Callable[[int], Any]


def mixed_seed(*numbers: int) -> int:
    """One seed, 0 .. 2**63, from several numbers; near ones give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_everything(*numbers: int, cuda: bool = True) -> None:
    """Seed the generators that PyTorch, NumPy and Python share among all callers."""
    seed = mixed_seed(*numbers)
    if cuda and torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # sparing a queue of seeds for devices that are not there
        torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def rng_state(cuda: bool = True) -> dict[str, Any]:
    """The state of the shared generators of this process, in tensors and plain values."""
    name, keys, *rest = np.random.get_state()
    state = {"python": random.getstate(), "torch": torch.get_rng_state()}
    state["numpy"] = [name, torch.from_numpy(keys.astype(np.int64)), *rest]
    cuda = cuda and torch.cuda.is_available()
    state["cuda"] = torch.cuda.get_rng_state_all() if cuda else []
    return state


def restore_rng_state(state: Mapping[str, Any]) -> None:
    """Go back to a state of `rng_state`; GPUs that are not here are passed over."""
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    for device, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(one.cpu(), device)


@contextmanager
def isolated_rng(*numbers: int, cuda: bool = True) -> Iterator[None]:
    """Run a block on its own randomness; afterwards the shared generators are as before."""
    before = rng_state(cuda)
    try:
        seed_everything(*numbers, cuda=cuda)
        yield
    finally:
        restore_rng_state(before)


@dataclass
class Draw:
    """The randomness of one micro-batch, for the loss to take.

    Attributes:
        step: of the optimizer.
        number: of the micro-batch, over all processes.
        level: set while the held-out loss is measured; then every sample has this noise level.
        levels: noise levels [B] that the loss has used, for the log; None if it uses none.
    """

    step: int
    number: int
    generator: torch.Generator
    level: float | None = None
    levels: Tensor | None = None

    def uniform(self, count: int) -> Tensor:
        """Noise levels [count] in 0 .. 1, one from each of `count` equal parts: every batch sees
        all levels, and the loss is steadier than with independent ones."""
        device = self.generator.device
        if self.level is not None:
            self.levels = torch.full((count,), self.level, device=device)
        else:
            order = torch.randperm(count, generator=self.generator, device=device)
            within = torch.rand(count, generator=self.generator, device=device)
            self.levels = (order + within) / count
        return self.levels

    def noise(self, like: Tensor) -> Tensor:
        """Gaussian noise of the shape of `like`, float32: rounding is the model's affair."""
        device = self.generator.device
        return torch.randn(like.shape, generator=self.generator, device=device)


@contextmanager
def explaining_dead_workers() -> Iterator[None]:
    """Say what it means when a process that loads data dies; that may surface anywhere.
    RuntimeError names the cause and what to do."""
    try:
        yield
    except (RuntimeError, ConnectionError) as error:  # or its socket breaks while a tensor comes
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        if isinstance(error, ConnectionError):  # PyTorch is about to say that the process died
            with suppress(RuntimeError):
                time.sleep(0.5)
        raise RuntimeError(
            f"a process that loads data died ({error}); often there was too little memory: take "
            "fewer workers or smaller batches. Run again to go on from the last checkpoint"
        ) from error


class BatchStream:
    """Endless batches of `data`, from any place on.

    A DataLoader's order, and whatever its data set draws from the shared generators of PyTorch,
    NumPy and Python while it makes an item, become a function of (seed, epoch, place): the same for
    any number of workers. Of an IterableDataset or another iterable this cannot be promised; it is
    resumed by skipping.

    Args:
        data: a `DataLoader`; a function that gives batch number n; or a list or another iterable of
            batches, which begins anew at its end.
        rank, world: with several processes each gets every world-th batch, so that two processes
            have together what one has in twice as many turns.
    """

    def __init__(self, data: Data, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        self.data, self.seed, self.rank, self.world = data, seed, rank, world
        self.position = 0  # what all processes have had
        ordered = isinstance(data, DataLoader) and not isinstance(data.dataset, IterableDataset)
        self._order = _Order(data, seed) if ordered else None
        self._batches: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """This process's next batch. ValueError if the data has none."""
        if self._batches is None:
            self._batches = self._open()
        batch = next(self._batches)
        self.position += self.world
        return batch

    def _open(self) -> Iterator[Any]:
        """This process's batches from here on."""
        first = self.position + self.rank
        if self._order is not None:
            # nothing of it leads back here: workers end with the last reference to this stream
            keys = itertools.islice(self._order, first, None, self.world)
            return iter(_loader_in_order(self.data, keys, self.seed))
        if callable(self.data) and not isinstance(self.data, Iterable):
            return map(self.data, itertools.count(first, self.world))
        return itertools.islice(_repeated(self.data), first, None, self.world)

    def state_dict(self) -> dict[str, Any]:
        """Where all processes stand after their last batch, and what fixes the order."""
        identity = self._order.identity() if self._order else {}
        return {"position": self.position, "identity": identity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` stands; ValueError if it comes from other data or settings."""
        own = self._order.identity() if self._order else {}
        before = state["identity"]  # that of an earlier version says less
        if changed := [n for n in own if not before or before.get(n, own[n]) != own[n]]:
            raise ValueError(
                f"the saved place belongs to another data set: {', '.join(changed)} changed since; "
                "resume with the same data and settings, or begin a new run"
            )
        self.position = state["position"]
        self.close()

    def close(self) -> None:
        """End the workers; the next batch is still the next one."""
        self._batches = None


def _repeated(data: Iterable[Any]) -> Iterator[Any]:
    """Its batches, and again from the first. ValueError if there are none, or none any more."""
    number = 0
    while True:
        before = number
        for batch in data:
            yield batch
            number += 1
        if number == before:
            raise ValueError(
                f"there were {number} batches and no more: give a list, a DataLoader, or a "
                "function of the batch's number, which can begin anew"
                if number
                else "there is no batch to train on: the data is empty"
            )


class _Order:
    """The keys of a loader's batches, epoch after epoch, each key with what seeds its item.

    Always from the first epoch on: whoever goes on later passes over what was, which costs the
    drawing of keys and loads nothing.
    """

    def __init__(self, loader: DataLoader, seed: int) -> None:
        self.seed, self.size, self.inner = seed, len(loader.dataset), loader.sampler
        self.sampler = loader.batch_sampler or loader.sampler  # of batches, or of items that are
        self.cut = {"batch size": loader.batch_size, "drop_last": loader.drop_last}

    def __iter__(self) -> Iterator[Any]:
        for epoch in itertools.count():
            for place, batch in enumerate(self._draw(epoch)):
                if isinstance(batch, list | tuple):
                    yield [(key, (epoch, place, n)) for n, key in enumerate(batch)]
                else:
                    yield batch, (epoch, place, 0)

    def _draw(self, epoch: int) -> list[Any]:
        """The keys of all batches of an epoch. ValueError if there are none."""
        if hasattr(self.sampler, "batches"):  # a function of the epoch already
            return self.sampler.batches(epoch)
        with isolated_rng(self.seed, epoch, cuda=False):
            for sampler in (self.sampler, self.inner):
                if hasattr(sampler, "set_epoch"):
                    sampler.set_epoch(epoch)
                if isinstance(own := getattr(sampler, "generator", None), torch.Generator):
                    own.manual_seed(mixed_seed(self.seed, epoch))
            keys = list(self.sampler)
        if not keys:
            raise ValueError("there is no batch to train on: the loader is empty")
        return keys

    def identity(self) -> dict[str, Any]:
        own = getattr(self.sampler, "identity", None)
        return own() if own else {"number of items": self.size, "seed": self.seed} | self.cut


class _SeededItems(Dataset):
    """A data set whose items draw on their own randomness, in whichever process they are made."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[Any, tuple[int, ...]]) -> Any:
        with isolated_rng(self.seed, *key[1], cuda=False):
            return self.dataset[key[0]]


def _loader_in_order(loader: DataLoader, order: Iterator[Any], seed: int) -> DataLoader:
    """The same loader, but for the order of its keys."""
    names = ["num_workers", "collate_fn", "pin_memory", "timeout"]
    names += ["multiprocessing_context", "prefetch_factor"] if loader.num_workers else []
    options = {name: getattr(loader, name) for name in names}
    options["worker_init_fn"] = partial(_end_with_training, loader.worker_init_fn)
    by_batch = loader.batch_sampler is not None
    options |= {"batch_sampler": order} if by_batch else {"sampler": order, "batch_size": None}
    # a generator of its own: the default one would be the training's
    own = torch.Generator().manual_seed(mixed_seed(seed))
    return DataLoader(_SeededItems(loader.dataset, seed), generator=own, **options)


def _end_with_training(begin: Callable[[int], None] | None, number: int) -> None:
    """What a worker does first. When its training is killed it ends too: PyTorch looks whether the
    process above is another, and above the workers of a fork server is always the server. Ctrl-C,
    which a terminal sends to all, is the training's to answer: it still needs its batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    training = multiprocessing.parent_process()
    threading.Thread(target=lambda: (training.join(), os._exit(1)), daemon=True).start()
    if begin is not None:
        begin(number)


def samples_in(batch: Any) -> int:
    """The length of the first tensor in a batch that has one; 0 without any."""
    tensors = (x for x in tree_leaves(batch) if isinstance(x, Tensor) and x.ndim)
    return next(map(len, tensors), 0)
