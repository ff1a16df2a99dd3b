"""The judge: a small clip classifier that reads the toy world's five attributes off the pixels,
and says "none of these" where a picture shows nothing it knows."""

import json
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from vidgen_lab.paths import model_dir
from vidgen_lab.toyworld.world import ATTRIBUTES
from vidgen_lab.video.clip import Clip, evenly_spaced
from vidgen_lab.video.tensors import to_model_range

HEIGHT, WIDTH = 64, 96
NONE = "none of these"


class ToyJudge(nn.Module):
    """Classify clips by subject, colour, motion, background and style.

    Four strided 2-D convolutions see every frame alone; two 3-D ones join the frames, where motion
    becomes visible. `temperature` and `unsure_below` are per attribute, fitted on clips that
    training never saw.

    Args:
        channels: of the 2-D convolutions' outputs.
        joint: channels of the 3-D convolutions' outputs.
        frames: of a clip that it looks at, evenly spread.
        answers: what it can say of each attribute, in the order of the logits; by default every
            value of the world, and "none of these".
        temperature: divides the logits, so that a confidence of 0.9 is right nine times out of ten.
        unsure_below: confidences under which an answer does not count.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (24, 40, 64, 80),
        joint: tuple[int, int] = (112, 144),
        frames: int = 8,
        answers: dict[str, list[str]] | None = None,
        temperature: dict[str, float] | None = None,
        unsure_below: dict[str, float] | None = None,
    ):
        super().__init__()
        self.channels, self.joint, self.frames = tuple(channels), tuple(joint), frames
        self.answers = answers or {name: [*values, NONE] for name, values in ATTRIBUTES.items()}
        self.temperature = temperature or dict.fromkeys(ATTRIBUTES, 1.0)
        self.unsure_below = unsure_below or dict.fromkeys(ATTRIBUTES, 0.0)

        def layers(conv, norm, widths, strides):
            for inside, outside, stride in zip(widths, widths[1:], strides, strict=False):
                yield conv(inside, outside, 3, stride, padding=1, bias=False)
                yield from (norm(outside), nn.SiLU())

        strides = (2,) * len(channels)
        self.frame = nn.Sequential(*layers(nn.Conv2d, nn.BatchNorm2d, (3, *channels), strides))
        widths, strides = (channels[-1], *joint), (1, (2, 1, 1))
        self.clip = nn.Sequential(*layers(nn.Conv3d, nn.BatchNorm3d, widths, strides))
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * joint[-1], len(said)) for name, said in self.answers.items()}
        )

    @property
    def settings(self) -> dict:
        """What config.json holds: `ToyJudge(**settings)` is this judge without its weights."""
        names = ("channels", "joint", "frames", "answers", "temperature", "unsure_below")
        return {name: getattr(self, name) for name in names}

    def forward(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        """video [B, 3, frames, 64, 96] in [-1, 1] -> logits [B, answers] per attribute."""
        pooled = self.features(video)
        return {name: head(pooled) / self.temperature[name] for name, head in self.heads.items()}

    def features(self, video: torch.Tensor) -> torch.Tensor:
        """The pooled features [B, 288] under the heads; a video embedding for the toy world."""
        b, _, t = video.shape[:3]
        x = self.frame(video.transpose(1, 2).flatten(0, 1))  # [B*T, C, 4, 6]
        x = self.clip(x.unflatten(0, (b, t)).transpose(1, 2))  # [B, C, T/2, 4, 6]
        return torch.cat([x.mean((2, 3, 4)), x.amax((2, 3, 4))], dim=1)


def judge_input(clips: list[Clip], num_frames: int) -> torch.Tensor:
    """Clips of any length and size as a judge's input [B, 3, num_frames, 64, 96] in [-1, 1].

    Other proportions than 3:2 are met half-way: half the difference is squeezed or stretched away,
    which leaves a ball a ball, the other half cut off or continued at the sides.
    """
    batch = []
    for clip in clips:
        chosen = evenly_spaced(clip.num_frames, num_frames, repeat=True)
        frames = torch.from_numpy(clip.frames[chosen]).permute(0, 3, 1, 2).float()  # [T, 3, H, W]
        width = round((WIDTH + HEIGHT * clip.width / clip.height) / 2)
        if frames.shape[-2:] != (HEIGHT, WIDTH):
            frames = F.interpolate(frames, (HEIGHT, width), mode="bilinear", antialias=True)
            left = (WIDTH - width) // 2  # negative where the sides are cut off
            frames = F.pad(frames, (left, WIDTH - width - left, 0, 0), mode="replicate")
        batch.append(to_model_range(frames.transpose(0, 1)))
    return torch.stack(batch)


@lru_cache(maxsize=2)
def load_judge(folder: Path | None = None) -> ToyJudge:
    """The shipped judge, or one saved by `save_judge` in `folder`."""
    folder = folder or model_dir("toy-judge")
    judge = ToyJudge(**json.loads((folder / "config.json").read_text()))
    judge.load_state_dict(load_file(folder / "model.safetensors"))  # half precision on the disk
    return judge.eval()


@torch.inference_mode()
def judge_clips(clips: list[Clip], judge: ToyJudge) -> list[dict[str, dict[str, float]]]:
    """For each clip and attribute the probability of every answer, "none of these" among them."""
    found: list[dict[str, dict[str, float]]] = [{} for _ in clips]
    for start in range(0, len(clips), 16):
        logits = judge(judge_input(clips[start : start + 16], judge.frames))
        for name, values in logits.items():
            for number, sure in enumerate(values.softmax(-1).tolist(), start):
                found[number][name] = dict(zip(judge.answers[name], sure, strict=True))
    return found
