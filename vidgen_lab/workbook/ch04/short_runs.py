"""Short trainings in a corner of the toy world, each of which changes one thing: chapter 4's runs.

    made = recorded("healthy")               # curves, samples and numbers, as they were recorded
    made = recorded("healthy", rerun=True)   # made again, here

They need no weights: a clip is a mosaic of a few coloured squares, and every word has a fixed
random vector of its own. `python -m vidgen_lab.workbook.ch04.short_runs` records those that are not
there yet; a name as argument records that one anew.
"""

import io
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vidgen_lab.files import write_files
from vidgen_lab.latte import Latte, LatteConfig
from vidgen_lab.latte.diffusion.samplers import Guidance, sample
from vidgen_lab.metrics import judge
from vidgen_lab.paths import data_dir
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.monitor import TIMING
from vidgen_lab.training.objectives import ObjectiveConfig, predict_latte
from vidgen_lab.training.optim import EMA, OptimizerConfig
from vidgen_lab.training.stream import Draw
from vidgen_lab.training.trainer import VideoModelTrainer
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.tensors import as_clip
from vidgen_lab.workbook.ch04.corner import (
    CELL,
    FRAMES,
    HEIGHT,
    PROMPTS,
    WIDTH,
    WORD_SIZE,
    SmallNet,
    corner,
    decode,
    worded,
    words_found,
)

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class ShortRun:
    """One training. The defaults are the healthy run; every other one changes a thing or two.

    clips: to learn from. space: "mosaic" or "pixels", which a narrow Latte reads in patches of
    16x16. attention: "" for `SmallNet`, "alternating" or "joint" for a Latte on the mosaic.
    small_until: up to this step the clips have half the height and width (of a Latte).
    fault: "" or one in the data or the loop: "zero_grad" (gradients are never set back to zero),
    "unscaled" (latents are 1/0.18215 times too large, the factor of Stable Diffusion forgotten),
    "captions" (every clip with that of another), "slow_ema" (decay 0.9999 from the first step on),
    "timestep" (t/1000 is told in training, t in sampling), "leak" (held-out clips are trained on).
    """

    steps: int = 300
    batch: int = 16
    seed: int = 0
    clips: int = 36
    objective: ObjectiveConfig = ObjectiveConfig(prediction="v", schedule="linear")
    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=2e-3, betas=(0.9, 0.98), schedule="stable_decay", warmup=20
    )
    ema_decay: float = 0.98
    max_grad_norm: float = 1.0
    fault: str = ""
    space: str = "mosaic"
    attention: str = ""
    learn_sigma: bool = False
    small_until: int = 0


_HEALTHY = ShortRun()


def _objective(**changes: Any) -> ObjectiveConfig:
    return replace(_HEALTHY.objective, **changes)


def _rate(**changes: Any) -> OptimizerConfig:
    return replace(_HEALTHY.optimizer, **changes)


_UNCLIPPED = {"max_grad_norm": 0.0}
_PIXELS = ShortRun(space="pixels", batch=8, objective=_objective(prediction="x0"))
RUNS: dict[str, ShortRun] = {
    "healthy": _HEALTHY,
    "rate too high": ShortRun(optimizer=_rate(learning_rate=5e-2)),
    "no zero_grad": ShortRun(fault="zero_grad", **_UNCLIPPED),
    "unscaled latents": ShortRun(fault="unscaled"),
    "shuffled captions": ShortRun(fault="captions"),
    "EMA too slow": ShortRun(fault="slow_ema"),
    "timestep off": ShortRun(fault="timestep"),
    "no warm-up": ShortRun(optimizer=_rate(learning_rate=1.5e-2, warmup=0), **_UNCLIPPED),
    "with warm-up": ShortRun(optimizer=_rate(learning_rate=1.5e-2, warmup=60), **_UNCLIPPED),
    "leaked validation": ShortRun(fault="leak", clips=8),
    "few clips": ShortRun(clips=8),
    "ninth": ShortRun(fault="timestep", seed=5, batch=12),
    "epsilon": ShortRun(objective=_objective(prediction="epsilon")),
    "x0": ShortRun(objective=_objective(prediction="x0")),
    "flow": ShortRun(objective=_objective(prediction="flow")),
    "flow logit-normal": ShortRun(objective=_objective(prediction="flow", levels="logit_normal")),
    "flow shifted": ShortRun(objective=_objective(prediction="flow", shift=3.0)),
    "min-SNR": ShortRun(objective=_objective(weighting="min_snr")),
    "pixels x0": ShortRun(space="pixels", steps=600, objective=_objective(prediction="x0")),
    "pixels epsilon": ShortRun(
        space="pixels", steps=600, objective=_objective(prediction="epsilon")
    ),
    "without features": _PIXELS,
    "with features": replace(_PIXELS, objective=_objective(prediction="x0", alignment=0.2)),
    "no EMA": ShortRun(ema_decay=0.0),
    "muon": ShortRun(optimizer=_rate(name="muon", muon_learning_rate=4e-3)),
    "batch 8": ShortRun(batch=8, steps=600),
    "batch 64": ShortRun(batch=64, steps=75, optimizer=_rate(warmup=5)),
    "learned variance": ShortRun(learn_sigma=True),
    "frame differences": ShortRun(objective=_objective(frame_difference=0.5)),
    "alternating attention": ShortRun(attention="alternating", steps=600),
    "joint attention": ShortRun(attention="joint", steps=600),
    "small first": ShortRun(attention="alternating", steps=760, small_until=420),
}
SHOWN = 3  # prompts whose samples are kept
# Of the log: what no two runs share, or no cell shows.
_LEFT_OUT = (*TIMING, "learning_rate", "mse")


# a run ------------------------------------------------------------------------------------------


class Forgetful(torch.optim.AdamW):
    """Whose gradients nobody clears."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


def build_model(run: ShortRun) -> nn.Module:
    torch.manual_seed(run.seed)
    pixels, cell = run.space == "pixels", 1 if run.space == "pixels" else CELL
    if not pixels and not run.attention:
        small = 3, FRAMES, HEIGHT // CELL, WIDTH // CELL
        return SmallNet(small, learn_sigma=run.learn_sigma)
    model = Latte(
        LatteConfig(
            sample_size=HEIGHT // cell,
            num_frames=FRAMES,
            in_channels=3,
            patch_size=16 if pixels else 2,  # 3 * 16 * 16 = 768 numbers, or 12, a token
            hidden_size=64,
            depth=2,
            num_heads=2,
            modulation="single",
            condition="text",
            text_dim=WORD_SIZE,
            learn_sigma=False,
        )
    )
    if run.attention == "joint":  # every token looks at all others, in all frames
        for block in model.blocks:
            block.spatial.attention.along = block.temporal.attention.along = "both"
    return model


def seen_by_the_judge(pixels: Tensor) -> Tensor:
    """The judge's features [B, D] of clips of the space "pixels"."""
    model = judge.load_judge().requires_grad_(False)
    shown = decode(pixels, "pixels").flatten(1, 2)  # [B, 3 T, H, W]
    shown = nn.functional.interpolate(shown, (judge.HEIGHT, judge.WIDTH), mode="bilinear")
    return model.features(shown.unflatten(1, (3, -1)))  # fewer frames than it is used to


def build_trainer(run: ShortRun, folder: Path, until: int | None = None) -> VideoModelTrainer:
    """The whole of a run, ready for `fit()`, which may end early: at the step `until`."""
    held, known = _measured(run, held_out=True), _measured(run, held_out=False)

    def predict(model: nn.Module, noisy: Tensor, t: Tensor, batch: Mapping[str, Any]) -> Tensor:
        return predict_latte(model, noisy, t / 1000 if run.fault == "timestep" else t, batch)

    align = seen_by_the_judge if run.objective.alignment else None
    objective = run.objective.build(predict, align)

    def data(number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((run.seed, number))
        shrunk = number < run.small_until
        latents, words = (part[: run.clips] for part in corner(run.space, False, shrunk))
        if run.fault == "leak":
            more = corner(run.space, True, shrunk)
            latents, words = torch.cat([latents, more[0]]), torch.cat([words, more[1]])
        chosen = rng.integers(len(latents), size=run.batch)
        said = rng.integers(len(latents), size=run.batch) if run.fault == "captions" else chosen
        text = words[said] * torch.from_numpy(rng.random(run.batch) >= 0.1)[:, None, None]
        return _as_batch(latents[chosen] * _too_large(run), text)

    def evaluate(model: nn.Module) -> dict[str, float]:
        losses = []
        for level in LEVELS:
            draw = Draw(0, 0, torch.Generator().manual_seed(3), level)
            losses.append(objective(model, known, draw)[0].mean().item())
        return {"seen": float(np.mean(losses))}

    config = TrainingConfig(
        steps=until or run.steps, seed=run.seed, precision="no", max_grad_norm=run.max_grad_norm,
        ema_decay=run.ema_decay, on_nonfinite="skip", log_every=10, validate_every=50,
        noise_levels=LEVELS, checkpoint_every=0, tensorboard=False, measure=False, device="cpu",
    )  # fmt: skip
    optimizers: Any = run.optimizer
    if run.fault == "zero_grad":

        def optimizers(model: nn.Module) -> dict[str, torch.optim.Optimizer]:
            rate = run.optimizer
            return {"adamw": Forgetful(model.parameters(), rate.learning_rate, rate.betas)}

    trainer = VideoModelTrainer(
        build_model(run), objective, data, folder, config, optimizers=optimizers,
        schedule=run.optimizer.factor(run.steps), held_out=[held], evaluate=evaluate,
    )  # fmt: skip
    if run.fault == "slow_ema":
        trainer.ema = EMA(trainer.model, 0.9999, warm=False)
    return trainer


def _too_large(run: ShortRun) -> float:
    return 1 / 0.18215 if run.fault == "unscaled" else 1.0


def _as_batch(latents: Tensor, text: Tensor) -> dict[str, Tensor]:
    return {"latents": latents, "text": text, "text_mask": torch.ones(text.shape[:2]).bool()}


def _measured(run: ShortRun, held_out: bool) -> dict[str, Tensor]:
    """As many known clips as are held out, or those."""
    latents, words = corner(run.space, held_out)
    count = min(len(corner(run.space, True)[0]), len(latents) if held_out else run.clips)
    return _as_batch(latents[:count] * _too_large(run), words[:count])


@torch.no_grad()
def clean_errors(model: nn.Module, run: ShortRun) -> dict[str, float]:
    """Squared error of the expected clip, by noise level: comparable between all predictions.

    A flow is asked at the levels that have the same signal-to-noise ratio.
    """
    batch, objective, errors = _measured(run, held_out=True), run.objective, {}
    clean, levels = batch["latents"], replace(objective, prediction="v").scheduler()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
    for level in LEVELS:
        t = torch.full((len(clean),), int(level * 1000))
        if objective.prediction == "flow":
            path = objective.path()
            s = 1 / (1 + levels.snr(t).sqrt())
            noisy = path.add_noise(clean, noise, s)
            guess = path.to_x0(predict_latte(model, noisy, path.timestep(s), batch), noisy, s)
        else:
            scheduler = objective.scheduler()
            noisy = scheduler.add_noise(clean, noise, t)
            output = predict_latte(model, noisy, t, batch)[:, : clean.shape[1]]
            guess = scheduler.to_x0(output, noisy, t)
        errors[f"{level:g}"] = (guess - clean).square().mean().item()
    return errors


@torch.no_grad()
def samples(model: nn.Module, run: ShortRun) -> list[Clip]:
    """A clip of each of PROMPTS in twelve steps, from the same noise in every run."""
    words = worded(PROMPTS)
    shape = (len(words), *corner(run.space)[0].shape[1:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(11))
    mask = torch.ones(words.shape[:2]).bool()
    told = {"text": words, "text_mask": mask}
    guided = Guidance(model, told, {"text": 0 * words, "text_mask": mask}, 2.0)
    made = sample(guided, run.objective.sampler(12), noise) / _too_large(run)
    pixels = decode(made, run.space).clamp(-1, 1)
    return [as_clip(video, fps=4) for video in pixels.nan_to_num()]


# records ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What a run left behind. history: lines of its log. errors: `clean_errors`. adherence: share
    of words that the samples show. clips: samples of the first SHOWN prompts."""

    name: str
    run: ShortRun
    history: list[dict[str, float]] = field(repr=False)
    errors: dict[str, float]
    adherence: float
    seconds: float
    clips: list[Clip] = field(repr=False)

    def curve(self, name: str) -> dict[int, float]:
        """A number of the log by step: "loss", "grad_norm", "held_out", "seen", ..."""
        return {int(row["step"]): row[name] for row in self.history if name in row}


def make(name: str, until: int | None = None) -> Record:
    """Do a run, here and now, or its beginning up to the step `until`."""
    run = _run(name)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(run, Path(folder), until)
        history = trainer.fit().history
    seconds = time.process_time() - started
    with trainer.evaluating(1):
        clips = samples(trainer.model, run)
        errors = clean_errors(trainer.model, run)
    return Record(name, run, history, errors, words_found(clips), seconds, clips[:SHOWN])


def _run(name: str) -> ShortRun:
    if name not in RUNS:
        raise ValueError(f"no run {name!r}; runs: {', '.join(RUNS)}")
    return RUNS[name]


def file_of(name: str, kind: str) -> Path:
    """Where a run's numbers ("json") or samples ("png") are kept."""
    return data_dir() / "runs" / "chapter04" / f"{name.replace(' ', '_')}.{kind}"


def recorded(name: str, rerun: bool = False, until: int | None = None) -> Record:
    """A run as it was recorded; or, with rerun, made again (its beginning, up to `until`)."""
    run = _run(name)
    if rerun:
        return make(name, until)
    said = json.loads(file_of(name, "json").read_text(encoding="utf-8"))
    measured = (said[key] for key in ("history", "errors", "adherence", "seconds"))
    sheet = np.asarray(Image.open(file_of(name, "png")))  # a row of frames for each clip
    rows = [np.split(row, FRAMES, axis=1) for row in np.split(sheet, len(sheet) // HEIGHT)]
    return Record(name, run, *measured, [Clip(np.stack(row), fps=4) for row in rows])


def write(made: Record) -> None:
    """Keep a record: numbers with four digits, samples as one small picture."""
    history = [
        {n: float(f"{v:.4g}") for n, v in row.items() if n not in _LEFT_OUT} for row in made.history
    ]
    said = {
        "command": f"python -m vidgen_lab.workbook.ch04.short_runs {json.dumps(made.name)}",
        "torch": torch.__version__,
        "run": asdict(made.run),
        "seconds": round(made.seconds, 1),
        "adherence": round(made.adherence, 4),
        "errors": {n: float(f"{v:.4g}") for n, v in made.errors.items()},
    }
    lines = ",\n".join(json.dumps(row) for row in history)
    text = json.dumps(said, indent=1)[:-2] + f',\n "history": [\n{lines}\n]\n}}\n'
    packed, sheet = io.BytesIO(), np.vstack([np.hstack(clip.frames) for clip in made.clips])
    Image.fromarray(sheet).save(packed, "png", optimize=True)
    write_files({file_of(made.name, "json"): text, file_of(made.name, "png"): packed.getvalue()})


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [n for n in RUNS if not file_of(n, "json").exists()]:
        print(f"== {wanted}", flush=True)
        write(make(wanted))
