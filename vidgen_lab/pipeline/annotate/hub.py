"""Trained annotators behind the interfaces of `annotators`, through transformers: one a role.

Pictures are prepared and results read by the processor that comes with the weights. Nothing is
fetched unless `download=True` says so, and the licence of the weights is shown first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F

from vidgen_lab.video.clip import Clip, evenly_spaced


@dataclass(frozen=True)
class Weights:
    """What one should know before fetching: size of the download and licence of the weights."""

    hub_id: str
    megabytes: int
    licence: str

    def __str__(self) -> str:
        return f"{self.hub_id}: about {self.megabytes} MB, licence {self.licence}"


WEIGHTS = {
    w.hub_id: w
    for w in (
        Weights("PekingU/rtdetr_r18vd", 81, "Apache-2.0"),
        Weights("microsoft/xclip-base-patch32", 790, "MIT"),
        Weights("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", 1030, "Apache-2.0"),
        Weights("openai/clip-vit-base-patch32", 605, "MIT (repository; the card names none)"),
    )
}


def fetch(kind: Any, hub_id: str, download: bool) -> Any:
    """`kind.from_pretrained`, from the cache alone unless `download`.

    Weights are safetensors or nothing; a model goes to the GPU where there is one.

    Raises:
        FileNotFoundError: the weights are not here; the message names their size and licence.
    """
    here = {"local_files_only": not download}
    # A model asks the hub for adapters, too.
    model = {"use_safetensors": True, "adapter_kwargs": here} if "Model" in kind.__name__ else {}
    try:
        loaded = kind.from_pretrained(hub_id, **here, **model)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return loaded.to(device) if isinstance(loaded, torch.nn.Module) else loaded
    except OSError as error:
        if download:
            raise
        raise FileNotFoundError(
            f"the weights are not on this machine; allow it with download=True. {WEIGHTS[hub_id]}"
        ) from error


class _Trained:
    """A model and its processor; an object's `settings` take the place of those of its class.

    Attributes:
        kinds: what the constructor takes first, by its names in transformers.
        samples: frames that the model sees.
    """

    hub_id: str
    kinds: tuple[str, ...]
    samples: int

    def __init__(self, model: Any, processor: Any, name: str, **settings: Any) -> None:
        self.model, self.processor, self.name = model.eval(), processor, name
        vars(self).update(settings)

    @classmethod
    def load(cls, download: bool = False) -> Self:
        """From the hub or its cache; the size and the licence are printed before a download."""
        import transformers

        if download:
            print(WEIGHTS[cls.hub_id])
        kinds = (getattr(transformers, kind) for kind in cls.kinds)
        return cls(*(fetch(kind, cls.hub_id, download) for kind in kinds), cls.hub_id)


class RtDetrDetector(_Trained):
    """RT-DETR finds objects that score above `threshold`; `model.config.id2label` names them."""

    hub_id = "PekingU/rtdetr_r18vd"
    kinds = ("AutoModelForObjectDetection", "AutoImageProcessor")
    samples, threshold = 5, 0.5

    @torch.inference_mode()
    def detect(self, clip: Clip) -> list[dict[str, Any]]:
        """Objects of the sampled frames, each {frame, box [x, y, width, height] in pixels, label,
        score in 0..1}, the surest of a frame first."""
        numbers = evenly_spaced(clip.num_frames, self.samples)
        inputs = self.processor(images=list(clip.frames[numbers]), return_tensors="pt")
        results = self.processor.post_process_object_detection(
            self.model(**inputs.to(self.model.device)),
            threshold=self.threshold,
            target_sizes=[(clip.height, clip.width)] * len(numbers),
        )
        found = []
        for number, result in zip(numbers, results, strict=True):
            boxes = result["boxes"].cpu().numpy()  # [Q, 4] x0, y0, x1, y1; some stick out a little
            boxes = np.clip(boxes, 0, [clip.width, clip.height] * 2)
            for q in result["scores"].argsort(descending=True).tolist():
                x0, y0, x1, y1 = boxes[q].tolist()
                found.append({
                    "frame": number, "box": [x0, y0, x1 - x0, y1 - y0],
                    "label": self.model.config.id2label[int(result["labels"][q])],
                    "score": float(result["scores"][q]),
                })  # fmt: skip
        return found


class XClipActions(_Trained):
    """X-CLIP: which of some sentences fits the clip best."""

    hub_id = "microsoft/xclip-base-patch32"
    kinds = ("XCLIPModel", "AutoImageProcessor", "AutoTokenizer")
    labels = (
        "a person walking", "a person running", "a person talking", "people dancing", "cooking",
        "playing a sport", "playing music", "driving", "an animal moving", "water flowing",
        "a camera moving through a landscape", "a still scene",
    )  # fmt: skip

    def __init__(
        self, model: Any, processor: Any, tokenizer: Any, name: str, **settings: Any
    ) -> None:
        samples = model.config.vision_config.num_frames
        super().__init__(model, processor, name, samples=samples, **settings)
        self.tokenizer = tokenizer

    @torch.inference_mode()
    def act(self, clip: Clip) -> list[dict[str, Any]]:
        """All of `labels` as {label, score}, the likeliest first; the scores add up to 1."""
        count = self.samples
        numbers = evenly_spaced(clip.num_frames, count, repeat=True)
        inputs = self.processor(list(clip.frames[numbers]), return_tensors="pt")
        video = inputs["pixel_values"].reshape(1, count, 3, *inputs["pixel_values"].shape[-2:])
        words = self.tokenizer(list(self.labels), padding=True, return_tensors="pt")
        device = self.model.device
        out = self.model(
            pixel_values=video.to(device),  # [1, T, 3, H, W]
            input_ids=words["input_ids"].to(device),
            attention_mask=words["attention_mask"].to(device),
        )
        shares = out.logits_per_video[0].softmax(-1).cpu()
        order = shares.argsort(descending=True).tolist()
        return [{"label": self.labels[i], "score": float(shares[i])} for i in order]


class SmolVlmCaptioner(_Trained):
    """SmolVLM2 looks at several frames in order and describes what happens.

    The processor turns (text, pictures) into model input, as transformers' AutoProcessor does.
    """

    hub_id = "HuggingFaceTB/SmolVLM2-256M-Video-Instruct"
    kinds = ("AutoModelForImageTextToText", "AutoProcessor")
    prompt = "Describe this video in one sentence: who or what, doing what, where."
    samples, max_new_tokens = 6, 60

    @torch.inference_mode()
    def caption(
        self, clip: Clip, objects: Sequence[dict[str, Any]], actions: Sequence[dict[str, Any]]
    ) -> str:
        """What the model says of the frames alone; objects and actions are not told to it."""
        from PIL import Image

        numbers = evenly_spaced(clip.num_frames, self.samples)
        frames = [Image.fromarray(clip.frames[n]) for n in numbers]
        ask = [{"type": "image"} for _ in frames] + [{"type": "text", "text": self.prompt}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": ask}], add_generation_prompt=True
        )
        whole = {"do_image_splitting": False, "return_tensors": "pt"}  # a frame is one picture
        given = self.processor(text=text, images=frames, **whole)
        inputs = {name: value.to(self.model.device) for name, value in given.items()}
        tokens = self.model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        answer = tokens[:, inputs["input_ids"].shape[1] :]
        return self.processor.batch_decode(answer, skip_special_tokens=True)[0].strip()


class ClipEmbedder(_Trained):
    """CLIP: the mean direction of the frames' embeddings."""

    hub_id = "openai/clip-vit-base-patch32"
    kinds = ("CLIPVisionModelWithProjection", "AutoImageProcessor")
    samples = 8

    @torch.inference_mode()
    def embed(self, clip: Clip) -> np.ndarray:
        """The clip's direction, float32 [D] of length 1: 512 numbers for the model of `hub_id`."""
        frames = clip.frames[evenly_spaced(clip.num_frames, self.samples)]
        inputs = self.processor(images=list(frames), return_tensors="pt")
        vectors = self.model(**inputs.to(self.model.device)).image_embeds  # [T, D]
        return F.normalize(F.normalize(vectors, dim=-1).mean(0), dim=0).cpu().numpy()
