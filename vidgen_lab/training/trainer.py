"""The training loop: any `nn.Module`, any loss, any data; stop it anywhere, go on exactly there.

    def loss(model, batch, draw):
        return (model(batch["x"]) - batch["y"]).square().mean()

    trainer = VideoModelTrainer(model, loss, loader, "runs/mine", TrainingConfig(steps=1000))
    trainer.fit()

What is special about a model lives in its loss; `objectives` has those of diffusion. What is random
in micro-batch n, counted over all processes, depends on (seed, n) alone: the batch, the noise that
`draw` gives, dropout. So a run that was killed repeats, bit by bit, the one that was not, and two
processes do together what one does with twice the accumulation.

`train_step` is the book's: fetch, forward, loss, backward, gradients, optimizer, weight average.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from vidgen_lab.training import distributed, monitor
from vidgen_lab.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    RunFolder,
    TrainingResult,
    settings_of_a_run,
)
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.distributed import Loss, Numbers, Task
from vidgen_lab.training.optim import (
    EMA,
    Builder,
    OptimizerConfig,
    Schedule,
    compile_blocks,
    compute_dtype,
    enable_checkpointing,
    learnt_state,
    set_rates,
    trainable,
)
from vidgen_lab.training.stream import (
    BatchStream,
    Data,
    Draw,
    explaining_dead_workers,
    isolated_rng,
    mixed_seed,
    restore_rng_state,
    rng_state,
    samples_in,
    seed_everything,
)

GIVE_UP_AFTER = 10  # steps in a row without a finite gradient


class VideoModelTrainer:
    """Trains `model` on `loss` over `data`, in `folder`.

    Args:
        loss: (model, batch, draw) -> a mean, or better one loss per sample [B], or a pair of it and
            other numbers for the log. Called under autocast, with the batch on the device.
        data: a DataLoader, a function that gives micro-batch n, or any iterable of batches.
        optimizers: a configuration, or a function of the model that builds one, or some by name.
        schedule: share of every learning rate by step; None is the configuration's own, else 1.
        held_out: batches never trained on. Their loss is measured at fixed noise levels with fixed
            noise, from step 0 on, on the averaged weights.
        evaluate: (model) -> numbers for the log, whenever the held-out loss is measured.
        sample: (model, step) -> clips to keep; through the same function as generation. Like
            `evaluate` it is called within `evaluating`.
        settings: what else makes this run (model, data, objective); resumed, it must be the same.
        on_log: called with every line of the log (wandb.log, say).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: Data,
        folder: str | Path,
        config: TrainingConfig | None = None,
        *,
        optimizers: OptimizerConfig | Builder = OptimizerConfig(),  # noqa: B008 it is frozen
        schedule: Schedule | None = None,
        held_out: Iterable[Any] | None = None,
        evaluate: Callable[[nn.Module], Numbers] | None = None,
        sample: Callable[[nn.Module, int], Sequence[Any]] | None = None,
        settings: Mapping[str, Any] | None = None,
        on_log: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.config = config or TrainingConfig()
        self.accelerator = distributed.accelerator(self.config.device)
        self.device = self.accelerator.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self._say = partial(self.accelerator.print, flush=True)  # the first process alone does
        self.model = model.to(self.device)
        self.held_out = list(held_out) if isinstance(held_out, Iterator) else held_out
        self._evaluate, self._sample, self._on_log = evaluate, sample, on_log
        if self.config.gradient_checkpointing:
            enable_checkpointing(model)
        if self.config.compile:
            compile_blocks(model)
        self.task = Task(model, loss)
        self.parallel = distributed.parallel(self.task, self.device, self.config.strategy)
        if isinstance(optimizers, OptimizerConfig):
            schedule = schedule or optimizers.factor(self.config.steps)
            optimizers = optimizers.build
        made, self.factor = optimizers(model), schedule or (lambda step: 1.0)
        self.optimizers = made if isinstance(made, Mapping) else {"optimizer": made}
        self._learning = list(trainable(model).values())
        self.dtype = compute_dtype(self.config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self.ema = EMA(model, self.config.ema_decay) if self.config.ema_decay else None
        self.stream = BatchStream(data, self.config.seed, self.rank, self.world)
        self.run = RunFolder(folder)
        self.settings = settings_of_a_run(self.config, self.world, settings or {})
        self.step = self.updates = self.skipped = 0
        self._window, self._meter = monitor.Window(self.device), monitor.Meter(self.device)
        self._stop, self._writer, self._saved = False, None, time.monotonic()
        if self.config.tf32 and self.device.type == "cuda":
            torch.backends.fp32_precision = "tf32"

    # the run --------------------------------------------------------------------------------

    def fit(self, allow: Sequence[str] = ()) -> TrainingResult:
        """Train to the last step, from the newest checkpoint in the folder or from the start.

        Ctrl-C and SIGTERM end the step, save, and return.

        Args:
            allow: names of settings that may differ from those the run was begun with.

        Raises:
            RuntimeError: another run trains in the folder, or a process that loads data died.
            ValueError: settings have changed.
            FloatingPointError: a gradient is not finite.
        """
        self._stop = False
        held = nullcontext() if self.rank else self.run.held()
        workers = closing(self.stream)  # they shall not outlive the training
        with held, workers, explaining_dead_workers(), monitor.interruptions() as asked:
            begun = self._begin(allow)
            board = self.config.tensorboard and self.rank == 0
            self._writer = monitor.board(self.run.folder, begun) if board else None
            self._meter.start(self.step)
            while self.step < self.config.steps and not self._stop:
                self.train_step()
                self._after_step(asked())
            if self._writer is not None:
                self._writer.close()
        if interrupted := self.step < self.config.steps:
            self._say(f"stopped at step {self.step}; saved, run again to go on")
        history = distributed.gathered(None if self.rank else self.run.history())[0]
        return TrainingResult(self.step, interrupted, begun, history)

    def train_step(self) -> None:
        """One update of the weights, from fetching the batches to averaging the weights."""
        if not self.model.training:
            self.model.train()
        first, results = self.stream.position + self.rank, []
        batches = [next(self.stream) for _ in range(self.config.accumulation)]
        if self.config.measure and not self._meter.flops:
            self._count_flops(batches[0])
        shares = self._shares(batches)
        set_rates(self.optimizers, self.factor(self.updates))
        for n, (batch, share) in enumerate(zip(batches, shares, strict=True)):
            draw = self.draw(first + n * self.world)
            last = n == len(batches) - 1
            # gradients travel between processes once a step, not once a micro-batch
            with nullcontext() if last else distributed.no_sync(self.parallel):
                loss, losses, numbers = self._forward(batch, draw, self.parallel)
                self.scaler.scale(loss * share).backward()
            results.append((loss.detach(), draw, batch))
            self._window.add(loss.detach(), losses, numbers, draw.levels, share / self.world)
        norm = self._update_weights(results)
        self.step += 1
        self._window.step(norm, 1 / self.world)

    def _update_weights(self, results: list[tuple]) -> float:
        """Unscale, clip, step, average; returns the norm of the gradient before clipping."""
        for optimizer in self.optimizers.values():
            self.scaler.unscale_(optimizer)
        norm = distributed.clip_grad_norm(self._learning, self.config.max_grad_norm or math.inf)
        if math.isfinite(norm):
            for optimizer in self.optimizers.values():
                self.scaler.step(optimizer)
            self.updates, self.skipped = self.updates + 1, 0
            if self.ema:
                self.ema.update(self.model)
        else:  # the schedule and the average stand still with the weights
            self.skipped += 1
            self._complain(results)
        self.scaler.update()
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        return norm

    def _complain(self, results: list[tuple]) -> None:
        """FloatingPointError, unless such a step may be left out, naming batch and noise levels."""
        wrong = sum(not loss.isfinite() for loss, *_ in results)
        overflow = self.scaler.is_enabled() and not any(distributed.gathered(wrong))
        if (overflow or self.config.on_nonfinite == "skip") and self.skipped < GIVE_UP_AFTER:
            return
        loss, draw, batch = next((r for r in results if not r[0].isfinite()), results[0])
        ids = batch.get("id") if isinstance(batch, Mapping) else None
        levels = "" if draw.levels is None else f", noise levels {draw.levels.tolist()}"
        raise FloatingPointError(
            f"the gradient is not finite at step {self.step} (loss {loss.item():g}, micro-batch "
            f"{draw.number}{f', clips {ids}' if ids else ''}{levels}): look at these clips, lower "
            "the learning rate, or set on_nonfinite=skip; the last checkpoint is from before"
        )

    def _count_flops(self, batch: Any) -> None:
        """Of one step of this process, on a micro-batch that leaves no trace."""
        if distributed.is_sharded(self.parallel):
            return  # what the counter would have to look into

        def once() -> None:
            loss, _, _ = self._forward(batch, self.draw(0), self.task)
            torch.autograd.grad(loss, self._learning, allow_unused=True)

        self.model.eval()
        with isolated_rng(0), torch.compiler.set_stance("force_eager"):
            self._meter.count(once, self.config.accumulation, self.dtype)
        self.model.train()

    def _forward(self, batch: Any, draw: Draw, task: nn.Module) -> Any:
        batch = send_to_device(batch, self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            return task(batch, draw)

    def draw(self, number: int, level: float | None = None) -> Draw:
        """A micro-batch's randomness, at a noise level if given; what else draws is seeded too."""
        seed_everything(self.config.seed, 0, number)
        seed = mixed_seed(self.config.seed, 1, number)
        generator = torch.Generator(self.device).manual_seed(seed)
        return Draw(self.step, number, generator, level)

    def _shares(self, batches: list[Any]) -> list[float]:
        """The weight of each micro-batch's mean in the step's: by samples, over all processes."""
        sizes = [samples_in(batch) or 1 for batch in batches]
        total = sum(distributed.gathered(sum(sizes)))
        # averaged over the processes, the shares add up to 1
        return [size * self.world / total for size in sizes]

    # what is done between steps -------------------------------------------------------------

    def _after_step(self, asked: bool) -> None:
        minutes = self.config.checkpoint_minutes
        late = bool(minutes) and time.monotonic() - self._saved > 60 * minutes
        told = zip(*distributed.gathered((asked, late)), strict=True)
        self._stop, late = map(any, told)  # in all processes alike
        done = self.step == self.config.steps
        at_end = done or self._stop
        if self._due("log_every", at_end):
            self._log()
        # who asked to stop waits for neither of these
        validates, samples = self._due("validate_every", done), self._due("sample_every", done)
        # saved before what might run out of memory
        if at_end or late or validates or samples or self._due("checkpoint_every"):
            self.save(must=at_end)
        if validates:
            self.validate()
        if samples:
            self.sample()

    def _due(self, name: str, at_end: bool = False) -> bool:
        every = getattr(self.config, name)
        return bool(every) and (self.step % every == 0 or at_end)

    def _log(self) -> None:
        """A line of means since the last one: loss, loss by noise band, speed, memory."""
        row = {"step": self.step} | self._window.means()
        row["learning_rate"] = next(iter(self.optimizers.values())).param_groups[0]["lr"]
        if self.scaler.is_enabled():
            row["loss_scale"] = self.scaler.get_scale()
        self._write(row | self._meter.row(self.step, self.config.steps))

    def validate(self) -> None:
        """Log the held-out loss at every noise level, and what `evaluate` says; keep the best."""
        row: dict[str, float] = {"step": self.step}
        with self._spared("validation", torch.OutOfMemoryError):
            with self.evaluating(0):
                if self.held_out is not None:
                    row |= self._held_out_loss()
                if self._evaluate:
                    numbers = self._evaluate(self.model)
                    row |= {n: float(torch.as_tensor(v)) for n, v in numbers.items()}
            self._write(row)

    def _held_out_loss(self) -> dict[str, float]:
        """Means over samples at each level and over levels; the same clips and noise every time."""
        sums: dict[str, Tensor] = {}  # (sum, count)
        share = not distributed.is_sharded(self.parallel)  # shards must all work on every batch
        for number, batch in enumerate(self.held_out):
            if share and number % self.world != self.rank:
                continue
            for level in self.config.noise_levels:
                draw = self.draw(number, level)
                loss, _, _ = self._forward(batch, draw, self.task)
                used, size = draw.levels is not None, samples_in(batch) or 1
                name = f"held_out_{level:g}" if used else "held_out"
                counted = torch.tensor([loss.item(), 1], dtype=torch.float64)
                sums[name] = sums.get(name, 0) + size * counted
                if not used:  # not a loss of noise levels: once is enough
                    break
        row = {n: (s / count).item() for n, (s, count) in distributed.added(sums).items()}
        if not row:
            raise ValueError("the held-out data has no batch")
        return {"held_out": sum(row.values()) / len(row)} | row

    def sample(self) -> None:
        """Let `sample` make its clips, and write them to samples/."""
        if self._sample is None:
            return
        with self._spared("samples", torch.OutOfMemoryError, OSError):
            with self.evaluating(1):
                clips = self._sample(self.model, self.step) or ()
            if self.rank == 0:
                monitor.write_samples(clips, self.run.folder / "samples", self.step, self._writer)

    @contextmanager
    def _spared(self, what: str, *errors: type[Exception]) -> Iterator[None]:
        """For what a training can do without when memory, or the disk, is full."""
        try:
            yield
        except errors as error:
            self._say(f"step {self.step} has no {what}: {error}; training goes on")

    @contextmanager
    def evaluating(self, purpose: int) -> Iterator[None]:
        """No gradients, evaluation mode, averaged weights, and randomness that the training does
        not notice: what happens within is the same however often it is done."""
        self.model.eval()
        distributed.share_buffers(self.model)
        averaged = self.ema.applied(self.model) if self.ema else nullcontext()
        try:
            with torch.no_grad(), averaged, isolated_rng(self.config.seed, 2, purpose):
                yield
        finally:
            self.model.train()
            if distributed.is_sharded(self.parallel):
                self.model.reshard()  # what was put together are the averaged weights

    # stopping and going on ------------------------------------------------------------------

    def save(self, must: bool = True) -> None:
        """Write a checkpoint. A full disk is a CheckpointError if it must, else only reported."""
        tensors = {"model": distributed.full(learnt_state(self.model))}
        if self.ema:
            tensors["ema"] = distributed.full(self.ema.shadow)
        states = {
            f"optimizer_{n}": distributed.full(o.state_dict()) for n, o in self.optimizers.items()
        }
        states["trainer"] = {
            "updates": self.updates,
            "skipped": self.skipped,
            "ema_updates": self.ema.updates if self.ema else 0,
            "scaler": self.scaler.state_dict(),
            "stream": self.stream.state_dict(),
        }
        own = {"random": rng_state(), "window": self._window.state_dict()}
        states["processes"] = distributed.gathered(own)
        error = None
        if self.rank == 0:
            try:
                self.run.save(self.step, tensors, states, self.config.keep_last)
            except CheckpointError as problem:
                error = problem
        if error := distributed.gathered(error)[0]:
            if must:
                raise error
            self._say(f"{error}; training goes on, the last checkpoint is kept")
        self._saved = time.monotonic()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Be where the checkpoint was made. CheckpointError if it is not of such a model."""
        weights = checkpoint.tensors("model")
        own = learnt_state(self.model)
        if {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in own.items()}:
            other = sorted(weights.keys() ^ own.keys()) or ["shapes"]
            raise CheckpointError(f"{checkpoint.path} is of another model: {', '.join(other[:5])}")
        distributed.load_full(own, weights)
        state, processes = checkpoint.state("trainer"), checkpoint.state("processes")
        if self.ema:  # a run that keeps an average only from now on begins with the weights
            kept = checkpoint.tensors("ema" if "ema.safetensors" in checkpoint.files else "model")
            distributed.load_full(self.ema.shadow, kept)
            self.ema.updates = state["ema_updates"]
        for name, optimizer in self.optimizers.items():
            distributed.load_optimizer(optimizer, checkpoint.state(f"optimizer_{name}"))
        self.step, self.updates, self.skipped = checkpoint.step, state["updates"], state["skipped"]
        if state["scaler"]:  # none if it ran in another precision
            self.scaler.load_state_dict(state["scaler"])
        self.stream.load_state_dict(state["stream"])
        if len(processes) == self.world:
            self._window.load_state_dict(processes[self.rank]["window"])
        restore_rng_state(processes[self.rank % len(processes)]["random"])

    def _begin(self, allow: Sequence[str]) -> int:
        """Find out whether the folder holds this run, and take it up or start it."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)  # of a step that broke off
        changed = self.run.agree(self.settings, allow) if self.rank == 0 else {}
        self.run.id = distributed.gathered(self.run.id)[0]
        checkpoint = self.run.latest()
        if checkpoint is None:
            self._say(f"a new run of {self.config.steps} steps in {self.run.folder}")
            self.stream.position = self.step * self.config.accumulation * self.world
            self.stream.close()  # and what a step that broke off had of it
            self._window.sums = {}
        else:
            self.restore(checkpoint)
            self._say(f"resumed at step {self.step} of {self.config.steps} in {self.run.folder}")
        for name, (before, now) in changed.items():
            self._say(f"changed: {name} was {before!r}, is {now!r}")
        size = 4 * sum(p.numel() for p in self._learning) * (3 + bool(self.ema))
        self._say(monitor.disk_forecast(self.run.folder, size, self.config.keep_last))
        begun = self.step
        if self.rank == 0:
            self.run.tell(self.settings)
            self.run.forget_after(begun if checkpoint or begun else -1)
        measured = distributed.gathered(self.run.was_measured(begun))[0]  # in the log as it is now
        if self._due("validate_every", begun == self.config.steps) and not measured:
            self.validate()  # step 0, or the run was killed while it measured
        if self._due("sample_every") and not begun:
            self.sample()
        return begun

    def _write(self, row: dict[str, float]) -> None:
        if self.rank:
            return
        with self._spared("line in the log", OSError):
            self.run.log(row)
            for name in row.keys() - {"step"} if self._writer is not None else ():
                self._writer.add_scalar(name, row[name], self.step)
        if self._on_log:
            self._on_log(row)
        shown = (f"{n} {v:.5g}" for n, v in row.items() if n != "step" and "_band_" not in n)
        self._say(f"step {row['step']}  " + "  ".join(shown))
