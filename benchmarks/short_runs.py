"""Chapter 4's short trainings in a corner of the toy world, each of which changes one thing.

    python benchmarks/short_runs.py                    those that are not recorded yet
    python benchmarks/short_runs.py healthy "no EMA"   these, anew
    python benchmarks/short_runs.py --folder FOLDER    into another folder than data/runs/chapter04

They need no weights: a clip is a mosaic of a few coloured squares, and every word has a fixed
random vector of its own. All take a few minutes. A record is NAME.json, with the log and what was
measured, and NAME.png, with samples: a row of frames for each of the first SHOWN prompts.
"""

import argparse
import io
import itertools
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vidgen_lab.files import write_files
from vidgen_lab.latte import Latte, LatteConfig
from vidgen_lab.latte.conditioning import TimestepEmbedder
from vidgen_lab.latte.diffusion.samplers import Guidance, sample
from vidgen_lab.metrics import judge
from vidgen_lab.paths import data_dir
from vidgen_lab.toyworld import Scene, render
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.monitor import TIMING
from vidgen_lab.training.objectives import ObjectiveConfig, predict_latte
from vidgen_lab.training.optim import EMA, OptimizerConfig
from vidgen_lab.training.stream import Draw
from vidgen_lab.training.trainer import VideoModelTrainer
from vidgen_lab.video.tensors import as_tensor, to_pixels

RECORDS = data_dir() / "runs" / "chapter04"
KINDS = ("ball", "star"), ("red", "yellow", "blue"), ("left", "right"), ("ocean", "desert")
WORDS = list(itertools.chain(*KINDS))
WIDTH, HEIGHT, FRAMES = 48, 32, 3  # pixels; every third frame of nine is kept
CELL, MEAN, SPREAD = 4, 0.1, 0.5  # a square of the mosaic in pixels; of the clips' values
WORD_SIZE = 32
PROMPTS = [
    Scene(*words.split())
    for words in ("ball red right ocean", "star yellow left desert", "ball blue left desert",
                  "star red left ocean", "ball yellow right desert", "star blue right ocean")
]  # fmt: skip
SHOWN = 3
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
LEFT_OUT = (*TIMING, "learning_rate", "mse")  # what no two runs share, or no cell shows


@dataclass(frozen=True)
class ShortRun:
    """One training. The defaults are the healthy run; every other one changes a thing or two.

    clips: to learn from. cell: CELL for the mosaic; 1 for pixels, which a narrow Latte reads in
    patches of 16x16. attention: "" for `SmallNet`, "alternating" or "joint" for a Latte.
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
    cell: int = CELL
    attention: str = ""
    learn_sigma: bool = False
    small_until: int = 0

    @property
    def scale(self) -> float:
        """What the latents are multiplied by before they are trained on."""
        return 1 / 0.18215 if self.fault == "unscaled" else 1.0


HEALTHY = ShortRun()


def asked(**changes: Any) -> ObjectiveConfig:
    return replace(HEALTHY.objective, **changes)


def rate(**changes: Any) -> OptimizerConfig:
    return replace(HEALTHY.optimizer, **changes)


FREE = {"max_grad_norm": 0.0}  # not clipped
PIXELS = ShortRun(cell=1, batch=8, objective=asked(prediction="x0"))
RUNS: dict[str, ShortRun] = {
    "healthy": HEALTHY,
    "rate too high": ShortRun(optimizer=rate(learning_rate=5e-2)),
    "no zero_grad": ShortRun(fault="zero_grad", **FREE),
    "unscaled latents": ShortRun(fault="unscaled"),
    "shuffled captions": ShortRun(fault="captions"),
    "EMA too slow": ShortRun(fault="slow_ema"),
    "timestep off": ShortRun(fault="timestep"),
    "no warm-up": ShortRun(optimizer=rate(learning_rate=1.5e-2, warmup=0), **FREE),
    "with warm-up": ShortRun(optimizer=rate(learning_rate=1.5e-2, warmup=60), **FREE),
    "leaked validation": ShortRun(fault="leak", clips=8),
    "few clips": ShortRun(clips=8),
    "ninth": ShortRun(fault="timestep", seed=5, batch=12),
    "epsilon": ShortRun(objective=asked(prediction="epsilon")),
    "x0": ShortRun(objective=asked(prediction="x0")),
    "flow": ShortRun(objective=asked(prediction="flow")),
    "flow logit-normal": ShortRun(objective=asked(prediction="flow", levels="logit_normal")),
    "flow shifted": ShortRun(objective=asked(prediction="flow", shift=3.0)),
    "min-SNR": ShortRun(objective=asked(weighting="min_snr")),
    "pixels x0": ShortRun(cell=1, steps=600, objective=asked(prediction="x0")),
    "pixels epsilon": ShortRun(cell=1, steps=600, objective=asked(prediction="epsilon")),
    "without features": PIXELS,
    "with features": replace(PIXELS, objective=asked(prediction="x0", alignment=0.2)),
    "no EMA": ShortRun(ema_decay=0.0),
    "muon": ShortRun(optimizer=rate(name="muon", muon_learning_rate=4e-3)),
    "batch 8": ShortRun(batch=8, steps=600),
    "batch 64": ShortRun(batch=64, steps=75, optimizer=rate(warmup=5)),
    "learned variance": ShortRun(learn_sigma=True),
    "frame differences": ShortRun(objective=asked(frame_difference=0.5)),
    "alternating attention": ShortRun(attention="alternating", steps=600),
    "joint attention": ShortRun(attention="joint", steps=600),
    "small first": ShortRun(attention="alternating", steps=760, small_until=420),
}


# the corner -------------------------------------------------------------------------------------


def scenes(held_out: bool = False) -> list[Scene]:
    """Every combination of words in two layouts; of those, each fourth combination is held out."""
    words = list(itertools.product(*KINDS))
    order = np.random.default_rng(0).permutation(len(words))
    chosen = order[: len(words) // 4] if held_out else order[len(words) // 4 :]
    return [Scene(*words[n], "cartoon", layout) for layout in (1, 2) for n in chosen]


def filmed(what: Sequence[Scene]) -> Tensor:
    """Clips of these scenes, [B, 3, FRAMES, HEIGHT, WIDTH] in -1 .. 1."""
    return as_tensor([render(each, WIDTH, HEIGHT, 3 * FRAMES).clip for each in what])[:, :, ::3]


def words_of(scene: Scene) -> tuple[str, ...]:
    return scene.subject, scene.colour, scene.motion, scene.background


def worded(what: Sequence[Scene]) -> Tensor:
    """What the model reads of a caption: a vector for each of its four words, [B, 4, WORD_SIZE]."""
    table = torch.randn(len(WORDS), WORD_SIZE, generator=torch.Generator().manual_seed(7))
    return table[torch.tensor([[WORDS.index(word) for word in words_of(s)] for s in what])]


def encode(clips: Tensor, cell: int = CELL) -> Tensor:
    """Clips [B, 3, T, H, W] as squares of a mosaic, centred and on the scale of noise."""
    return (nn.functional.avg_pool3d(clips, (1, cell, cell)) - MEAN) / SPREAD


def decode(latents: Tensor, cell: int = CELL) -> Tensor:
    return (latents * SPREAD + MEAN).repeat_interleave(cell, -1).repeat_interleave(cell, -2)


@cache
def corner(cell: int = CELL, held_out: bool = False, shrunk: bool = False) -> tuple:
    """Clips and words of one half of the world: [N, C, T, h, w] and [N, 4, WORD_SIZE]."""
    what = scenes(held_out)
    return encode(filmed(what), cell * 2 if shrunk else cell), worded(what)


def words_found(clips: Tensor) -> float:
    """The share of the words of PROMPTS that clips show; each is taken for the scene of the world
    that it is nearest to."""
    world = [*scenes(), *scenes(held_out=True)]
    apart = torch.cdist(encode(clips).flatten(1), encode(filmed(world)).flatten(1))
    shown = [words_of(world[n]) for n in apart.argmin(1)]
    return float(np.mean(np.array(shown) == np.array([words_of(s) for s in PROMPTS])))


# a run ------------------------------------------------------------------------------------------


class SmallNet(nn.Module):
    """All values of a clip at once, through layers of `width`; what was put in also goes straight
    to the end, times a number that the timestep decides."""

    def __init__(self, size: int, width: int = 256, learn_sigma: bool = False) -> None:
        super().__init__()
        self.parts = 1 + learn_sigma
        self.into, self.out = nn.Linear(size, width), nn.Linear(width, self.parts * size)
        self.time, self.words = TimestepEmbedder(width), nn.Linear(4 * WORD_SIZE, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.gain = nn.Linear(width, 1)
        for layer in (self.out, self.gain):
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, t: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        told = self.time(t) + self.words(text.flatten(1))  # [B, width]
        h = self.into(x.flatten(1)) + told
        for norm, block in zip(self.norms, self.blocks, strict=True):
            h = h + block(nn.functional.silu(norm(h) + told))
        y, *variance = self.out(h).view(len(x), -1, *x.shape[2:]).chunk(self.parts, 1)
        y = y + self.gain(told).view(-1, 1, 1, 1, 1) * x
        return torch.cat([y, *variance], 1)  # [B, C or 2C, T, H, W]


def build_model(run: ShortRun) -> nn.Module:
    torch.manual_seed(run.seed)
    if run.cell == CELL and not run.attention:
        return SmallNet(corner()[0][0].numel(), learn_sigma=run.learn_sigma)
    patch = 16 if run.cell == 1 else 2  # 3 * 16 * 16 = 768 numbers, or 12, a token
    model = Latte(LatteConfig(
        sample_size=HEIGHT // run.cell, num_frames=FRAMES, in_channels=3, patch_size=patch,
        hidden_size=64, depth=2, num_heads=2, modulation="single", condition="text",
        text_dim=WORD_SIZE, learn_sigma=False,
    ))  # fmt: skip
    if run.attention == "joint":  # every token looks at all others, in all frames
        for block in model.blocks:
            block.spatial.attention.along = block.temporal.attention.along = "both"
    return model


def seen_by_the_judge(pixels: Tensor) -> Tensor:
    """The judge's features [B, D] of clips as `encode` gives them with a cell of 1."""
    model = judge.load_judge().requires_grad_(False)
    shown = decode(pixels, 1).flatten(1, 2)  # [B, 3 T, H, W]
    shown = nn.functional.interpolate(shown, (judge.HEIGHT, judge.WIDTH), mode="bilinear")
    return model.features(shown.unflatten(1, (3, -1)))  # fewer frames than it is used to


def as_batch(latents: Tensor, text: Tensor) -> dict[str, Tensor]:
    return {"latents": latents, "text": text, "text_mask": torch.ones(text.shape[:2]).bool()}


def measured_on(run: ShortRun, held_out: bool) -> dict[str, Tensor]:
    """As many known clips as are held out, or those."""
    latents, words = corner(run.cell, held_out)
    count = min(len(corner(run.cell, True)[0]), len(latents) if held_out else run.clips)
    return as_batch(latents[:count] * run.scale, words[:count])


def build_trainer(run: ShortRun, folder: Path, until: int | None = None) -> VideoModelTrainer:
    """The whole of a run, ready for `fit()`, which may end early: at the step `until`."""
    known = measured_on(run, held_out=False)

    def predict(model: nn.Module, noisy: Tensor, t: Tensor, batch: Mapping[str, Any]) -> Tensor:
        return predict_latte(model, noisy, t / 1000 if run.fault == "timestep" else t, batch)

    align = seen_by_the_judge if run.objective.alignment else None
    objective = run.objective.build(predict, align)

    def data(number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((run.seed, number))
        shrunk = number < run.small_until
        latents, words = (part[: run.clips] for part in corner(run.cell, False, shrunk))
        if run.fault == "leak":
            more = corner(run.cell, True, shrunk)
            latents, words = torch.cat([latents, more[0]]), torch.cat([words, more[1]])
        chosen = rng.integers(len(latents), size=run.batch)
        said = rng.integers(len(latents), size=run.batch) if run.fault == "captions" else chosen
        text = words[said] * torch.from_numpy(rng.random(run.batch) >= 0.1)[:, None, None]
        return as_batch(latents[chosen] * run.scale, text)

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

    def forgetful(model: nn.Module) -> torch.optim.Optimizer:
        own = run.optimizer
        optimizer = torch.optim.AdamW(model.parameters(), own.learning_rate, own.betas)
        optimizer.zero_grad = lambda **_: None
        return optimizer

    trainer = VideoModelTrainer(
        build_model(run), objective, data, folder, config,
        optimizers=forgetful if run.fault == "zero_grad" else run.optimizer,
        schedule=run.optimizer.factor(run.steps), held_out=[measured_on(run, held_out=True)],
        evaluate=evaluate,
    )  # fmt: skip
    if run.fault == "slow_ema":
        trainer.ema = EMA(trainer.model, 0.9999, warm=False)
    return trainer


@torch.no_grad()
def clean_errors(model: nn.Module, run: ShortRun) -> dict[str, float]:
    """Squared error of the expected clip, by noise level: comparable between all predictions.

    A flow is asked at the levels that have the same signal-to-noise ratio.
    """
    batch, objective, errors = measured_on(run, held_out=True), run.objective, {}
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
def samples(model: nn.Module, run: ShortRun) -> Tensor:
    """A clip of each of PROMPTS in twelve steps, from the same noise in every run."""
    words = worded(PROMPTS)
    shape = (len(words), *corner(run.cell)[0].shape[1:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(11))
    mask = torch.ones(words.shape[:2]).bool()
    told = {"text": words, "text_mask": mask}
    guided = Guidance(model, told, {"text": 0 * words, "text_mask": mask}, 2.0)
    made = sample(guided, run.objective.sampler(12), noise) / run.scale
    return decode(made, run.cell).clamp(-1, 1).nan_to_num()


def record(name: str, folder: Path) -> None:
    """Do a run and keep it: numbers with four digits, samples as one small picture."""
    run, started = RUNS[name], time.process_time()
    with tempfile.TemporaryDirectory() as place:
        trainer = build_trainer(run, Path(place))
        history = trainer.fit().history
    seconds = time.process_time() - started
    with trainer.evaluating(1):
        clips, errors = samples(trainer.model, run), clean_errors(trainer.model, run)
    said = {
        "command": f"python benchmarks/short_runs.py {json.dumps(name)}",
        "torch": torch.__version__,
        "run": asdict(run),
        "seconds": round(seconds, 1),
        "adherence": round(words_found(clips), 4),
        "errors": {n: float(f"{v:.4g}") for n, v in errors.items()},
    }
    rows = [{n: float(f"{v:.4g}") for n, v in r.items() if n not in LEFT_OUT} for r in history]
    lines = ",\n".join(map(json.dumps, rows))
    text = json.dumps(said, indent=1)[:-2] + f',\n "history": [\n{lines}\n]\n}}\n'
    sheet = to_pixels(clips[:SHOWN]).permute(0, 3, 2, 4, 1)  # [B, H, T, W, 3]
    packed = io.BytesIO()
    Image.fromarray(sheet.reshape(SHOWN * HEIGHT, -1, 3).numpy()).save(packed, "png", optimize=True)
    folder.mkdir(parents=True, exist_ok=True)
    file = numbers_of(name, folder)
    write_files({file: text, file.with_suffix(".png"): packed.getvalue()})


def numbers_of(name: str, folder: Path) -> Path:
    return folder / f"{name.replace(' ', '_')}.json"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RUNS))
    parser.add_argument("--folder", type=Path, default=RECORDS)
    args = parser.parse_args(arguments)
    if unknown := [name for name in args.names if name not in RUNS]:
        parser.error(f"no run {unknown[0]!r}; runs: {', '.join(RUNS)}")
    missing = [name for name in RUNS if not numbers_of(name, args.folder).exists()]
    for name in args.names or missing:
        print(f"== {name}", flush=True)
        record(name, args.folder)


if __name__ == "__main__":
    main()
