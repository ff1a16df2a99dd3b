"""Train the judge on renders, degraded in the ways generated clips are: soft, noisy, passed through
the video VAE."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import save_file

from vidgen_lab.files import replacing, write_files
from vidgen_lab.metrics.judge import ToyJudge, judge_input, load_judge
from vidgen_lab.toyworld import Scene
from vidgen_lab.toyworld.world import ATTRIBUTES
from vidgen_lab.training.checkpoints import Run
from vidgen_lab.training.loop import Numbers, train
from vidgen_lab.training.optimizers import warmup_cosine
from vidgen_lab.training.toy_data import render_clips, sample_scenes
from vidgen_lab.training.toy_vae import fast_spatial_norm, reconstruct
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.tensors import to_model_range, to_pixels

IGNORE = -100


@dataclass(frozen=True)
class ToyJudgeConfig:
    """Recipe of the judge. `reconstructed` renders also pass through the VAE, as every generated
    clip does."""

    clips: int = 12000
    reconstructed: int = 2000
    steps: int = 6000
    batch: int = 32
    learning_rate: float = 2e-3
    seed: int = 0


def labels(scenes: list[Scene]) -> dict[str, torch.Tensor]:
    """Class indices [N] per attribute; what cannot be seen (colour in black and white) is ignored
    by the loss."""
    columns = {
        name: [
            ATTRIBUTES[name].index(s.visible[name]) if name in s.visible else IGNORE for s in scenes
        ]
        for name in ATTRIBUTES
    }
    return {name: torch.tensor(column) for name, column in columns.items()}


def judge_loss(
    judge: ToyJudge, video: torch.Tensor, target: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Sum over attributes of the mean cross-entropy, with a little label smoothing to keep the
    judge modest."""
    logits = judge(video)
    return sum(
        F.cross_entropy(
            logits[name].float(), target[name], ignore_index=IGNORE, label_smoothing=0.02
        )
        for name in logits
    )


def degrade(video: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Soften and add noise to video [B, 3, T, H, W], a random amount per batch, so that detail
    alone decides nothing."""
    strength = torch.rand(2, generator=generator, device=generator.device)
    if strength[0] < 0.5:
        b, _, t, h, w = video.shape
        flat = video.transpose(1, 2).flatten(0, 1)
        small = F.interpolate(
            flat, scale_factor=0.5 + strength[0].item(), mode="bilinear", antialias=True
        )
        video = F.interpolate(small, (h, w), mode="bilinear").unflatten(0, (b, t)).transpose(1, 2)
    noise = torch.randn(video.shape, generator=generator, device=video.device)
    return video + 0.12 * strength[1] * noise


def train_judge(
    config: ToyJudgeConfig, vae_folder: Path, out: Path, device: str = "cpu", log_every: int = 100
) -> None:
    """Train (or resume) the judge; `out` gets checkpoint.pt, log.jsonl and judge/."""
    torch.manual_seed(config.seed)
    scenes = sample_scenes(config.clips, config.seed + 20, held_out=None)
    clips, target = _judge_clips(scenes, config, vae_folder, device), labels(scenes)
    judge = ToyJudge().to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=config.learning_rate, weight_decay=0.02)
    run = Run(out, {"judge": judge, "optimizer": optimizer}, config.steps, log_every)

    def loss_at(step: int) -> tuple[torch.Tensor, Numbers]:
        rng = np.random.default_rng((config.seed, step))
        index = torch.from_numpy(rng.integers(config.clips, size=config.batch))
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        video = degrade(to_model_range(clips[index]), noise).to(device)
        truth = {name: column[index].to(device) for name, column in target.items()}
        return judge_loss(judge.train(), video, truth), {}

    factor = partial(warmup_cosine, steps=config.steps, warmup=100)
    train(run, judge, {"optimizer": optimizer}, factor, loss_at, device=device, clip=5.0)
    save_judge(judge, out / "judge")
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2))


def save_judge(judge: ToyJudge, folder: Path) -> None:
    """Write config.json and half-precision model.safetensors, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        n: v.half() if v.is_floating_point() else v for n, v in judge.cpu().state_dict().items()
    }
    with replacing(folder / "model.safetensors") as temporary:
        save_file(state, temporary)
    write_files({folder / "config.json": json.dumps(judge.settings, indent=2)})


@torch.inference_mode()
def judge_accuracy(folder: Path, count: int = 1000, seed: int = 99) -> dict[str, float]:
    """Share of right answers per attribute on fresh renders, where the attribute is visible."""
    judge, scenes = load_judge(folder), sample_scenes(count, seed, held_out=None)
    clips = [Clip(c.permute(1, 2, 3, 0).numpy(), fps=8) for c in render_clips(scenes, 96, 64, 17)]
    right: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    target = labels(scenes)
    for start in range(0, count, 32):
        logits = judge(judge_input(clips[start : start + 32]))
        for name, values in logits.items():
            truth = target[name][start : start + 32]
            right[name] += (values.argmax(-1) == truth)[truth != IGNORE].tolist()
    return {name: sum(hits) / len(hits) for name, hits in right.items()}


def _judge_clips(
    scenes: list[Scene], config: ToyJudgeConfig, vae_folder: Path, device: str
) -> torch.Tensor:
    """uint8 [N, 3, 9, 64, 96]; the last `reconstructed` clips as the VAE gives them back."""
    clips = []
    for start in range(0, len(scenes), 500):
        full = render_clips(scenes[start : start + 500], 96, 64, 17)
        first = config.clips - config.reconstructed
        if start >= first:
            vae = AutoencoderKLCogVideoX.from_pretrained(vae_folder).to(device)
            with fast_spatial_norm(), torch.autocast(torch.device(device).type, torch.bfloat16):
                full = to_pixels(reconstruct(vae, full))
        clips.append(full[:, :, ::2].clone())
    return torch.cat(clips)
