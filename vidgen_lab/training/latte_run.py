"""From a configuration to a training of Latte: `build_model`, `build_dataset`, and all together.

The clips become latents once, kept under their content; captions become text embeddings; then it
is `VideoModelTrainer`'s.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from vidgen_lab.files import write_files
from vidgen_lab.latte import Latte, LatteConfig
from vidgen_lab.latte.config import latte_config
from vidgen_lab.latte.pipeline import VideoGenerator
from vidgen_lab.latte.text import TextEncoder
from vidgen_lab.latte.vae import FrameVAE
from vidgen_lab.paths import model_dir
from vidgen_lab.seeds import rng
from vidgen_lab.training.checkpoint import RunFolder, settings_of_a_run
from vidgen_lab.training.config import DatasetConfig, ModelConfig, RunConfig
from vidgen_lab.training.data.buckets import Assignment, Bucket, BucketBatchSampler, assign
from vidgen_lab.training.data.clip_encoding import spans_of
from vidgen_lab.training.data.clips import ClipRecord, read_clips
from vidgen_lab.training.data.dataset import LatentDataset, VideoDataset, preview
from vidgen_lab.training.data.latent_cache import LatentCache
from vidgen_lab.training.distributed import accelerator
from vidgen_lab.training.objectives import TwoExperts
from vidgen_lab.training.trainer import VideoModelTrainer
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.writer import write_clip


@dataclass(frozen=True)
class Parts:
    """What turns clips and captions into what Latte reads, frozen."""

    vae: FrameVAE
    text: TextEncoder

    @classmethod
    def load(cls, name: str, max_text_length: int, device: torch.device) -> "Parts":
        """From a folder in diffusers' layout, or an embedded model by name."""
        folder = Path(name) if Path(name).is_dir() else model_dir(name)
        vae = FrameVAE.from_diffusers(folder).float().to(device).requires_grad_(False)
        return cls(vae, TextEncoder.from_diffusers(folder, max_text_length, device))


def build_model(config: ModelConfig, dataset: DatasetConfig, parts: Parts) -> Latte:
    """An untrained Latte for these latents and texts, or one with the weights of `config.init`;
    ValueError if that one makes clips of another length than `dataset`."""
    if config.init:
        folder = Path(config.init) if Path(config.init).is_dir() else model_dir(config.init)
        model = Latte.from_diffusers(folder)
        if model.config.num_frames != dataset.num_frames:
            raise ValueError(
                f"model.init={config.init} makes clips of {model.config.num_frames} frames: set "
                f"dataset.num_frames to that, not to {dataset.num_frames}"
            )
        return model
    fits = {
        "sample_size": dataset.height // parts.vae.spatial_factor,
        "num_frames": dataset.num_frames,
        "in_channels": parts.vae.config.latent_channels,
        "learn_sigma": config.learn_sigma,
        "modulation": "single",
        "condition": "text",
        "text_dim": parts.text.model.config.d_model,
    }
    if config.size:
        return Latte(latte_config(config.size, **fits))
    own = {n: getattr(config, n) for n in ("hidden_size", "depth", "num_heads", "patch_size")}
    return Latte(LatteConfig(**own, **fits))


def build_dataset(
    config: DatasetConfig, parts: Parts, folder: Path, seed: int, main: bool = True
) -> tuple[DataLoader, list[dict[str, Any]]]:
    """Loader of the training clips, and batches of the held-out ones; everything is encoded first.

    The run's `folder` gets placement.csv, which says where every clip went or why it was left out,
    and preview.mp4, which shows what will be trained on.

    Args:
        config: which clips, and how they come.
        parts: what encodes them.
        folder: of the run; the latents are kept in latents/ beside it, for all runs there.
        seed: of windows, batches, dropped captions, and which clips are held out.
        main: whether to write and say so.

    Raises:
        ValueError: held-out clips are trained on as well, or leave none to train on.
    """
    import pandas

    bucket = Bucket(config.num_frames, config.height, config.width, config.stride)
    records = read_clips(config.folder)
    if config.held_out:
        kept = read_clips(config.held_out)
        learnt = {record.path.resolve() for record in records}
        if both := [record.id for record in kept if record.path.resolve() in learnt]:
            raise ValueError(
                f"{len(both)} clips of dataset.held_out={config.held_out} are trained on as well, "
                f"such as {both[0]}: hold others out, or leave it empty to keep some of the first"
            )
    else:
        videos: dict[str, list[ClipRecord]] = {}  # one may be listed with several captions
        for record in records:
            videos.setdefault(record.id, []).append(record)
        if len(videos) <= config.held_out_clips:
            raise ValueError(
                f"{config.folder} has {len(videos)} clips, and dataset.held_out_clips="
                f"{config.held_out_clips} keeps all of them from training: add clips, or keep fewer"
            )
        listed, order = list(videos.values()), rng(seed, "held out").permutation(len(videos))
        kept = [record for n in order[: config.held_out_clips] for record in listed[n]]
        records = [record for n in sorted(order[config.held_out_clips :]) for record in listed[n]]
    found = assign(records, [bucket], config.max_upscale)
    try:
        fitting = assign(kept, [bucket], config.max_upscale) if kept else Assignment(())
    except ValueError as error:
        raise ValueError(f"the clips that are held out: {error}") from None
    dataset = VideoDataset(found.clips, seed, config.sampling)
    if main:
        rows = [{"used": "trained on"} | row for row in found.rows()]
        rows += [{"used": "held out"} | row for row in fitting.rows()]
        write_files({folder / "placement.csv": pandas.DataFrame(rows).to_csv(index=False)})
        write_clip(preview(dataset, list(range(min(8, len(dataset))))), folder / "preview.mp4")
        print(f"trained on (see {folder / 'preview.mp4'}):\n{found}")
        print(f"held out:\n{fitting}" if kept else "nothing is held out")
    texts = _texts(parts.text, [c for c, _ in (*found.clips, *fitting.clips)])
    cache = LatentCache(folder.parent / "latents", parts.vae.vae, torch.float16)
    sampler = BucketBatchSampler(found.clips, config.batch_size, seed, balanced=config.balanced)
    how = {"dropout": config.caption_dropout, "seed": seed}
    data = _encoded(dataset, config.epochs, cache, texts, **how)
    loader = DataLoader(data, batch_sampler=sampler, num_workers=config.workers)
    first = VideoDataset(fitting.clips, sampling="start")
    held_out = _encoded(first, 1, cache, texts, draws=False)
    return loader, list(DataLoader(held_out, config.batch_size))


def _encoded(
    dataset: VideoDataset, epochs: int, cache: LatentCache, texts: dict[str, Any], **how: Any
) -> LatentDataset:
    """The windows that a data set shows in so many epochs, as latents; how: see `LatentDataset`."""
    windows = [spans_of(dataset, epoch) for epoch in range(epochs)]
    cache.encode([span for spans in windows for span in spans])
    return LatentDataset(cache, windows, [record for record, _ in dataset.clips], texts, **how)


def _texts(encoder: TextEncoder, records: Sequence[ClipRecord]) -> dict[str, Any]:
    """Embedding and mask of every caption, and of ""."""
    captions, made = sorted({"", *(record.caption for record in records)}), {}
    for start in range(0, len(captions), 64):
        some = captions[start : start + 64]
        text = encoder.encode(some).to("cpu")
        made |= dict(zip(some, zip(text.embeddings, text.mask, strict=True), strict=True))
    return made


def build_trainer(config: RunConfig, allow: Sequence[str] = ()) -> VideoModelTrainer:
    """Everything of a run, ready for `fit(allow)`. Encodes what is not in the cache yet.

    Raises:
        ValueError: the folder holds a run with other settings than these and those that `allow`
            names; nothing has been encoded or written then.
    """
    torch.manual_seed(config.training.seed)
    processes = accelerator(config.training.device)
    folder, data = Path(config.output), config.dataset
    settings = asdict(config)
    settings.pop("training")
    settings["dataset"].pop("workers")
    told = settings_of_a_run(config.training, processes.num_processes, settings)
    RunFolder(folder).agree(told, allow)
    processes.print(f"processes: {processes.num_processes}, on {processes.device.type}")
    parts = Parts.load(data.models, data.max_text_length, processes.device)
    model = build_model(config.model, data, parts)  # refuses sizes before clips are encoded
    if boundary := config.diffusion.expert_boundary:
        low = build_model(config.model, data, parts)
        model = TwoExperts(model, low, boundary, config.diffusion.num_timesteps)
    with processes.main_process_first():  # the others find everything encoded
        seed, main = config.training.seed, processes.is_main_process
        loader, held_out = build_dataset(data, parts, folder, seed, main)
    rate = loader.dataset.records[0].fps / data.stride
    return VideoModelTrainer(
        model, config.diffusion.build(), loader, folder, config.training,
        optimizers=config.optimizer, held_out=held_out or None,
        sample=_sampler(config, parts, rate) if config.logging.prompts else None,
        settings=settings,
    )  # fmt: skip


def _sampler(config: RunConfig, parts: Parts, fps: float) -> Callable[[nn.Module, int], list[Clip]]:
    """Clips of the configured prompts, through the function that generates after training too."""
    said = config.logging

    def sample(model: Latte, step: int) -> list[Clip]:
        generate = VideoGenerator(model, parts.vae, parts.text)
        sampler = config.diffusion.sampler(said.sampling_steps)
        size = {"height": config.dataset.height, "width": config.dataset.width}
        made = generate(list(said.prompts), sampler, said.guidance_scale, said.sample_seed, **size)
        return made.clips(fps)

    return sample
