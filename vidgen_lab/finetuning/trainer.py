"""Fine-tuning CogVideoX on chapter 4's trainer: what is learned, from what, and what comes out.

The loop, its checkpoints and its exact resume are `training.trainer`'s. Here is what is special
about CogVideoX: encode and free, adapt, feed as the pipeline feeds, sample through the one function
that generates, and save what stock diffusers loads.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import CogVideoXTransformer3DModel
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from vidgen_lab.finetuning.config import FinetuneConfig
from vidgen_lab.finetuning.dataset import TrainingClip, read_training_clips, table_of
from vidgen_lab.finetuning.encoding import LatentDataset, encode_clips, encode_texts
from vidgen_lab.finetuning.export import (
    SelfCheck,
    check_pipeline_folder,
    save_lora,
    save_pipeline,
    self_checks,
)
from vidgen_lab.finetuning.lora import (
    Trainable,
    apply_lora_to_model,
    count_trainable,
    input_layer,
    widen,
)
from vidgen_lab.finetuning.scaling import check_memory, check_quantize, forecast
from vidgen_lab.finetuning.specification import CogVideoXSpec
from vidgen_lab.generation.generate import generate, generate_from_image
from vidgen_lab.generation.loading import fingerprint, locate, pick_dtype
from vidgen_lab.generation.lora_file import LoRAError
from vidgen_lab.generation.request import GenerationRequest, validate_request
from vidgen_lab.generation.stock import DTYPE, quantized
from vidgen_lab.generation.words import ignored_words
from vidgen_lab.progress import quiet_loading
from vidgen_lab.settings.hardware import probe
from vidgen_lab.settings.tiers import ModelFacts, model_facts
from vidgen_lab.settings.weights import IMAGE_TO_VIDEO, TEXT_TO_VIDEO
from vidgen_lab.training import distributed
from vidgen_lab.training.checkpoint import RunFolder, settings_of_a_run
from vidgen_lab.training.optim import compute_dtype, learnt_state
from vidgen_lab.training.stream import Draw
from vidgen_lab.training.trainer import TrainingResult, VideoModelTrainer
from vidgen_lab.video.clip import Clip


@dataclass(frozen=True)
class FinetuneResult:
    """How a fine-tuning ended; if interrupted, there is nothing but `training` yet.

    Attributes:
        saved: the LoRA file, or the folder of the fine-tuned pipeline.
        check: what a fresh process said of the LoRA file; None if it was not asked.
    """

    training: TrainingResult
    saved: Path | None = None
    check: SelfCheck | None = None


class CogVideoTrainer:
    """Trains a LoRA on CogVideoX, or its own weights, as `config.method` says (book listing 5.L03).

        config = FinetuneConfig(DataConfig("clips"), "runs/ink")
        CogVideoTrainer(config).fit()

    Making one reads the model's configuration and the clips, and refuses what cannot work, before
    anything large is loaded. `prepare` encodes and loads; `fit` trains and saves. A LoRA's file is
    loaded by stock diffusers in a process of its own and compared, before `fit` returns.

    Args:
        config: sizes that it leaves open are the model's own in `self.config`.
        on_log: called with every line of the log.
        download: whether weights that are not here may be fetched.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        on_log: Callable[[dict[str, float]], None] | None = None,
        download: bool = False,
    ) -> None:
        if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true":
            raise ValueError(
                "this trainer shards by itself: launch with ddp.yaml and set training.strategy=fsdp"
                ", which is what ZeRO-3 does; the DeepSpeed files are for CogVideo's own trainer"
            )
        if config.training.strategy == "fsdp" and config.samples.prompts:
            raise ValueError("a sharded model makes no samples: leave samples.prompts empty")
        check_quantize(config.quantize)
        self._on_log = on_log
        self.model = locate(config.model, download, TEXT_TO_VIDEO, IMAGE_TO_VIDEO)
        self.spec = CogVideoXSpec.from_folder(self.model)
        self._widened = config.input_layer and not self.spec.image_to_video
        if self._widened:
            twice = {"in_channels": 2 * self.spec.latent_channels}
            self.spec = replace(self.spec, transformer=dict(self.spec.transformer) | twice)
        sizes = zip(("num_frames", "height", "width"), self.spec.limits.native, strict=True)
        data = replace(config.data, **{n: getattr(config.data, n) or own for n, own in sizes})
        self.config = replace(config, data=data)
        self.spec.check_size(data.num_frames, data.height, data.width)
        if config.method != "lora" or config.input_layer:
            check_pipeline_folder(config.output / "pipeline")
        self.requests = [self._request(prompt) for prompt in config.samples.prompts]
        images = config.samples.images if self.spec.image_to_video else ()
        if self.spec.image_to_video and len(images) != len(self.requests):
            raise ValueError(
                "this model reads first frames: give samples.images one for each prompt"
            )
        self.pictures = [Image.open(path).convert("RGB") for path in images]
        clips, self.unfit = read_training_clips(data)
        if len(clips) <= data.held_out:
            raise ValueError(f"{len(clips)} clips leave none to train on: held_out={data.held_out}")
        self.clips = clips[: len(clips) - data.held_out]
        self.held_out = clips[len(clips) - data.held_out :]
        prior = replace(data, folder=data.prior, captions="description") if data.prior else None
        self.prior: list[TrainingClip] = read_training_clips(prior)[0] if prior else []
        self.trainer: VideoModelTrainer | None = None
        with torch.device("meta"):  # counted on a model without weights
            empty = CogVideoXTransformer3DModel.from_config(self.spec.transformer)
            self.trainable = self.adapt(empty)

    def describe(self) -> str:
        """What will be trained on what, and what it will take, before it begins."""
        plan = forecast(self.spec, self.config)
        lines = [f"{self.config.model}: {self.spec.describe()}", str(self.trainable)]
        lines += [f"Forecast: {plan.explain()}"] if plan else []
        captions = " ".join(clip.caption for clip in self.clips)
        if unknown := ", ".join(ignored_words(captions, self.config.model)):
            lines.append(f"This model has one token for all words it does not know: {unknown}")
        return "\n".join([*lines, table_of(self.clips, self.unfit)])

    # before the training ----------------------------------------------------------------------

    def prepare(self, allow: Sequence[str] = ()) -> VideoModelTrainer:
        """Encode what is not encoded yet, load the transformer and adapt it.

        Raises:
            ValueError: `output` holds a run with other settings than these and those that `allow`
                names; nothing was encoded then.
        """
        config, data, training = self.config, self.config.data, self.config.training
        processes, settings = distributed.accelerator(training.device), self._settings()
        device = processes.device
        told = settings_of_a_run(training, processes.num_processes, {"finetune": settings})
        RunFolder(config.output).agree(told, allow)
        dtype = self._precision(device)
        if training.strategy != "fsdp":
            check_memory(self.trainable, device, dtype, config.quantize)
        cache = config.cache or config.output / "cache"
        everything = [*self.clips, *self.held_out, *self.prior]
        prompts = config.samples.prompts
        texts = ["", *prompts, *(clip.caption for clip in everything)]
        self.texts = encode_texts(
            self.model, cache / "texts", texts, self.spec.text_tokens, device, dtype
        )
        self.latents = encode_clips(
            self.model, cache / "latents", everything, self.spec.image_to_video, device, dtype
        )
        parts = self.latents, self.texts, self.spec
        learnt = LatentDataset(self.clips, *parts, data.caption_dropout, self.prior)
        held_out = LatentDataset(self.held_out, *parts) if self.held_out else None
        transformer = self._load_transformer(dtype)
        self.adapt(transformer)
        self.trainer = VideoModelTrainer(
            transformer,
            self.loss,
            DataLoader(learnt, data.batch_size, shuffle=True, num_workers=data.workers),
            config.output,
            training,
            optimizers=config.optimizer,
            held_out=DataLoader(held_out, data.batch_size) if held_out else None,
            sample=self.sample if prompts else None,
            settings={"finetune": settings},
            on_log=self._on_log,
        )
        return self.trainer

    def _precision(self, device: torch.device) -> torch.dtype:
        """What the run computes in and keeps frozen weights in; ValueError if it would overflow."""
        computed = compute_dtype(self.config.training.precision, device)
        if computed is torch.float16:
            facts = model_facts(self.config.model)
            native = facts.dtype if facts else "float16"
            pick_dtype(native, "auto", str(device), probe(), self.config.model)
        return computed or torch.float32

    def _load_transformer(self, dtype: torch.dtype) -> CogVideoXTransformer3DModel:
        given = {DTYPE: dtype} | quantized(self.config.quantize, dtype)
        with quiet_loading(self.model):
            transformer = CogVideoXTransformer3DModel.from_pretrained(
                self.model / "transformer", **given
            )
        if self._widened:
            widen(transformer)
        return transformer

    def adapt(self, transformer: CogVideoXTransformer3DModel) -> Trainable:
        """Choose what learns, in float32 (16 bits lose small steps); ValueError: too few blocks."""
        config, blocks = self.config, transformer.transformer_blocks
        if config.method == "blocks" and config.blocks > len(blocks):
            raise ValueError(f"this model has {len(blocks)} blocks, not {config.blocks}")
        transformer.requires_grad_(False)
        if config.method == "lora":
            apply_lora_to_model(transformer, config.lora, config.training.seed)
        whole = {"lora": [], "sft": [transformer], "blocks": blocks[-config.blocks :]}
        reading = [input_layer(transformer)] if config.input_layer else []
        for module in (*whole[config.method], *reading):
            module.requires_grad_(True).float()
        return count_trainable(transformer)

    def _settings(self) -> dict[str, Any]:
        """What makes this run what it is, in plain values: a resumed one must agree."""
        own = asdict(self.config)
        for name in ("output", "cache", "training", "check", "samples"):
            own.pop(name)
        own["data"].pop("workers")
        return own | {"revision": fingerprint(self.model), "clips": [c.id for c in self.clips]}

    # a step -----------------------------------------------------------------------------------

    def loss(self, model: nn.Module, batch: dict[str, Any], draw: Draw) -> torch.Tensor:
        """The checkpoint's objective at drawn noise levels, [B], for items of a `LatentDataset`."""
        latents = batch["latents"]  # [B, C, t, h, w]
        steps = self.spec.scheduler.config.num_train_timesteps
        timesteps = (draw.uniform(len(latents)) * steps).long().clamp(max=steps - 1)
        noise = draw.noise(self.spec.cells(latents))  # [B, T, C, h, w]
        image = batch.get("image")
        return self.spec.loss(model, latents, batch["text"], noise, timesteps, image)

    # samples ----------------------------------------------------------------------------------

    def sample(self, model: nn.Module, step: int) -> list[Clip]:
        """One clip of each prompt, through the function that generates everywhere else."""
        pipe, dtype = self.pipeline(model), self.trainer.dtype
        # What learns in float32 does not take what the other parts give in 16 bits.
        mixed = dtype is not None and (self.config.method != "lora" or self.config.input_layer)
        with torch.autocast(pipe.device.type, dtype, enabled=mixed):
            if not self.spec.image_to_video:
                return [generate(pipe, request).clip for request in self.requests]
            pairs = zip(self.pictures, self.requests, strict=True)
            return [generate_from_image(pipe, picture, request) for picture, request in pairs]

    def _request(self, prompt: str) -> GenerationRequest:
        """For a sample; RequestError where the model cannot meet it."""
        data, samples, name = self.config.data, self.config.samples, self.config.model
        facts = model_facts(name) or ModelFacts(name)
        scale = samples.guidance_scale
        request = GenerationRequest(
            prompt,
            num_inference_steps=samples.num_inference_steps,
            guidance_scale=facts.guidance_scale if scale is None else scale,
            num_frames=data.num_frames,
            height=data.height,
            width=data.width,
            fps=facts.fps,
            seed=samples.seed,
            model=name,
        )
        validate_request(request, self.spec.limits)
        return request

    def pipeline(self, model: nn.Module) -> Any:
        """The model as it stands in a pipeline that knows the texts of this run and holds no T5."""
        where = next(model.parameters()).device
        kind, given = getattr(diffusers, self.spec.pipeline_name), {DTYPE: self._precision(where)}
        with quiet_loading(self.model):
            pipe = kind.from_pretrained(self.model, text_encoder=None, transformer=model, **given)
        self.texts.device = where  # some versions of diffusers ask this part where they calculate
        pipe.register_modules(text_encoder=self.texts)
        pipe.vae.to(where)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    # the run ----------------------------------------------------------------------------------

    def fit(self, allow: Sequence[str] = ()) -> FinetuneResult:
        """Train, or go on where a run in `output` stopped, and save the result.

        Args:
            allow: names of settings that may differ from those the run was begun with.

        Raises:
            LoRAError: the saved file does not do in diffusers' own pipeline what was trained.
        """
        trainer = self.trainer or self.prepare(allow)
        done = trainer.fit(allow)
        if done.interrupted:
            return FinetuneResult(done)
        if trainer.ema:
            trainer.ema.copy_to(trainer.model)
        whole = self._whole(trainer)  # all processes have a part in it
        saved = self.save(whole) if trainer.rank == 0 else ()
        distributed.gathered(None)  # the others wait for the file
        return FinetuneResult(done, *saved)

    def _whole(self, trainer: VideoModelTrainer) -> nn.Module:
        """The trained model, put together from its shards if it has any."""
        if not distributed.is_sharded(trainer.parallel):
            return trainer.model
        state = distributed.full(learnt_state(trainer.model))  # all processes must ask for it
        whole = self._load_transformer(torch.float32)
        self.adapt(whole)
        whole.load_state_dict(state, strict=False)
        return whole

    def save(self, model: nn.Module) -> tuple[Path, SelfCheck | None]:
        """Write the result; returns it, and what a check said of it. LoRAError as in `fit`."""
        config, data, lora = self.config, self.config.data, self.config.method == "lora"
        base, whole = self.model, model
        if lora and config.input_layer:
            whole = self._load_transformer(torch.float32)
            input_layer(whole).load_state_dict(input_layer(model).state_dict())
        if config.input_layer or not lora:
            kind, folder = self.spec.pipeline_name, config.output / "pipeline"
            base = save_pipeline(whole, self.model, folder, kind, self._settings())
        if not lora:
            return base, None
        facts = {
            "model": config.model,
            "revision": fingerprint(self.model),
            "steps": config.training.steps,
            "clips": len(self.clips),
            "trigger": data.trigger,
            "captions": data.captions,
            "quantize": config.quantize,
            "size": f"{data.num_frames}x{data.height}x{data.width}",
        }
        file = save_lora(model, config.output, facts).path
        if not config.check:
            return file, None
        (check,) = self_checks([(model, self.spec, base, file)])
        if not check.passed:
            raise LoRAError(f"{file} loads, but {check}")
        return file, check


# What the book calls it (5.L03), where it trains a LoRA alone.
CogVideoLoRATrainer = CogVideoTrainer
