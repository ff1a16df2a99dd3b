"""Trained annotators behind the interfaces of `annotators`, through transformers.

Nothing is fetched unless `download=True` says so, and the licence of the weights is shown first.
Pictures are prepared here in a few lines of torch, so that every model sees the same frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vidgen_lab.pipeline.annotate.annotators import Action, Object
from vidgen_lab.video.clip import Clip

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


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
        Weights("hustvl/yolos-tiny", 26, "Apache-2.0"),
        Weights("PekingU/rtdetr_r18vd", 81, "Apache-2.0"),
        Weights("microsoft/xclip-base-patch32", 790, "MIT"),
        Weights("Salesforce/blip-image-captioning-base", 990, "BSD-3-Clause"),
        Weights("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", 1030, "Apache-2.0"),
        Weights("openai/clip-vit-base-patch32", 605, "MIT (repository; the card names none)"),
        Weights("google/siglip-base-patch16-224", 813, "Apache-2.0"),
    )
}


def fetch(kind: Any, hub_id: str, download: bool) -> Any:
    """`kind.from_pretrained`, from the cache alone unless `download`; the licence is printed first.

    Raises FileNotFoundError naming size and licence when the weights are not here.
    """
    about = WEIGHTS.get(hub_id, f"{hub_id}: size and licence unknown, read its card")
    if download:
        print(about)
    # Processors and tokenizers have no weights; of a model, other formats may hold code.
    safe = {} if kind.__name__.endswith(("Processor", "Tokenizer")) else {"use_safetensors": True}
    try:
        loaded = kind.from_pretrained(hub_id, local_files_only=not download, **safe)
        return loaded.to(_device()) if isinstance(loaded, torch.nn.Module) else loaded
    except OSError as error:
        if download:
            raise
        raise FileNotFoundError(
            f"the weights are not on this machine; allow it with download=True. {about}"
        ) from error


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def pictures(
    frames: np.ndarray, size: tuple[int, int], norm: tuple[Sequence[float], Sequence[float]]
) -> torch.Tensor:
    """uint8 [T, H, W, 3] -> float [T, 3, height, width], resized and normalised."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in norm)
    return (x - mean) / std


class HubDetector:
    """YOLOS or RT-DETR. model: with `.config.id2label`. looks: frames of a clip that are seen."""

    def __init__(
        self, model: Any, name: str, side: int = 512, looks: int = 5, least: float = 0.5
    ) -> None:
        self.model, self.name = model.eval(), name
        self.side, self.looks, self.least = side, looks, least
        self.square = "rt_detr" in model.config.model_type

    @classmethod
    def load(cls, hub_id: str = "hustvl/yolos-tiny", download: bool = False) -> "HubDetector":
        from transformers import AutoModelForObjectDetection

        side = 640 if "rtdetr" in hub_id else 512
        return cls(fetch(AutoModelForObjectDetection, hub_id, download), hub_id, side)

    @torch.inference_mode()
    def detect(self, clip: Clip) -> list[Object]:
        numbers = _looks(clip, self.looks)
        size, norm = (self.side, self.side), _PLAIN
        if not self.square:
            scale = self.side / min(clip.height, clip.width)
            size, norm = (round(clip.height * scale), round(clip.width * scale)), _IMAGENET
        x = pictures(clip.frames[numbers], size, norm).to(self.model.device)
        out = self.model(pixel_values=x)
        logits, placed = out.logits.cpu(), out.pred_boxes.cpu()
        # RT-DETR scores every class by itself; YOLOS has one class more, for "nothing here".
        scores = logits.sigmoid() if self.square else logits.softmax(-1)[..., :-1]
        best, label = scores.max(-1)  # [T, Q]
        centre, extent = placed[..., :2], placed[..., 2:]
        corner = torch.cat([centre - extent / 2, extent], -1)
        boxes = corner * torch.tensor([clip.width, clip.height] * 2)  # [T, Q, 4] x, y, w, h
        names = self.model.config.id2label
        found = []
        for row, number in enumerate(numbers):
            for q in best[row].argsort(descending=True).tolist():
                if best[row, q] >= self.least:
                    found.append({
                        "frame": number, "box": boxes[row, q].tolist(),
                        "label": names[int(label[row, q])], "score": float(best[row, q]),
                    })  # fmt: skip
        return found


ACTION_LABELS = (
    "a person walking", "a person running", "a person talking", "people dancing", "cooking",
    "playing a sport", "playing music", "driving", "an animal moving", "water flowing",
    "a camera moving through a landscape", "a still scene",
)  # fmt: skip


class XClipActions:
    """X-CLIP: which of some sentences fits the clip best."""

    def __init__(self, model: Any, tokenizer: Any, labels: Sequence[str], name: str) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.labels, self.name = tuple(labels), name

    @classmethod
    def load(
        cls, labels: Sequence[str] = ACTION_LABELS,
        hub_id: str = "microsoft/xclip-base-patch32", download: bool = False,
    ) -> "XClipActions":  # fmt: skip
        from transformers import AutoTokenizer, XCLIPModel

        model = fetch(XCLIPModel, hub_id, download)
        return cls(model, fetch(AutoTokenizer, hub_id, download), labels, hub_id)

    @torch.inference_mode()
    def act(self, clip: Clip) -> list[Action]:
        vision = self.model.config.vision_config
        numbers = np.linspace(0, clip.num_frames - 1, vision.num_frames).round().astype(int)
        size = (vision.image_size, vision.image_size)
        device = self.model.device
        video = pictures(clip.frames[numbers], size, _IMAGENET)[None]  # [1, T, 3, H, W]
        words = self.tokenizer(list(self.labels), padding=True, return_tensors="pt")
        out = self.model(
            pixel_values=video.to(device),
            input_ids=words.input_ids.to(device),
            attention_mask=words.attention_mask.to(device),
        )
        shares = out.logits_per_video[0].softmax(-1).cpu()
        order = shares.argsort(descending=True).tolist()
        return [{"label": self.labels[i], "score": float(shares[i])} for i in order]


class BlipCaptioner:
    """BLIP describes the middle frame of a clip."""

    def __init__(self, model: Any, tokenizer: Any, name: str, max_new_tokens: int = 30) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.max_new_tokens = max_new_tokens

    @classmethod
    def load(
        cls, hub_id: str = "Salesforce/blip-image-captioning-base", download: bool = False
    ) -> "BlipCaptioner":
        from transformers import AutoTokenizer, BlipForConditionalGeneration

        model = fetch(BlipForConditionalGeneration, hub_id, download)
        return cls(model, fetch(AutoTokenizer, hub_id, download), hub_id)

    @torch.inference_mode()
    def caption(self, clip: Clip, objects: Sequence[Object], actions: Sequence[Action]) -> str:
        side = self.model.config.vision_config.image_size
        middle = clip.frames[clip.num_frames // 2][None]
        x = pictures(middle, (side, side), _CLIP).to(self.model.device)
        tokens = self.model.generate(pixel_values=x, max_new_tokens=self.max_new_tokens)
        return self.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()


class SmolVlmCaptioner:
    """SmolVLM2 looks at several frames in order and describes what happens.

    processor: turns (text, pictures) into the model's input, as transformers' AutoProcessor does.
    """

    prompt = "Describe this video in one sentence: who or what, doing what, where."

    def __init__(
        self, model: Any, processor: Any, name: str, looks: int = 6, max_new_tokens: int = 60
    ) -> None:
        self.model, self.processor, self.name = model.eval(), processor, name
        self.looks, self.max_new_tokens = looks, max_new_tokens

    @classmethod
    def load(
        cls, hub_id: str = "HuggingFaceTB/SmolVLM2-256M-Video-Instruct", download: bool = False
    ) -> "SmolVlmCaptioner":
        from transformers import AutoModelForImageTextToText, AutoProcessor

        model = fetch(AutoModelForImageTextToText, hub_id, download)
        processor = fetch(AutoProcessor, hub_id, download)
        processor.image_processor.do_image_splitting = False  # a frame is one picture, not many
        return cls(model, processor, hub_id)

    @torch.inference_mode()
    def caption(self, clip: Clip, objects: Sequence[Object], actions: Sequence[Action]) -> str:
        from PIL import Image

        frames = [Image.fromarray(clip.frames[n]) for n in _looks(clip, self.looks)]
        ask = [{"type": "image"} for _ in frames] + [{"type": "text", "text": self.prompt}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": ask}], add_generation_prompt=True
        )
        given = self.processor(text=text, images=frames, return_tensors="pt")
        inputs = {name: value.to(self.model.device) for name, value in given.items()}
        tokens = self.model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        answer = tokens[:, inputs["input_ids"].shape[1] :]
        return self.processor.batch_decode(answer, skip_special_tokens=True)[0].strip()


class HubEmbedder:
    """CLIP or SigLIP: the mean direction of the frames' embeddings."""

    def __init__(self, model: Any, name: str, looks: int = 8) -> None:
        self.model, self.name, self.looks = model.eval(), name, looks
        self.norm = _HALF if "siglip" in model.config.model_type else _CLIP

    @classmethod
    def load(
        cls, hub_id: str = "openai/clip-vit-base-patch32", download: bool = False
    ) -> "HubEmbedder":
        from transformers import CLIPVisionModelWithProjection, SiglipVisionModel

        kind = SiglipVisionModel if "siglip" in hub_id else CLIPVisionModelWithProjection
        return cls(fetch(kind, hub_id, download), hub_id)

    @torch.inference_mode()
    def embed(self, clip: Clip) -> np.ndarray:
        side = self.model.config.image_size
        frames = clip.frames[_looks(clip, self.looks)]
        x = pictures(frames, (side, side), self.norm).to(self.model.device)
        out = self.model(pixel_values=x)
        vectors = out.image_embeds if hasattr(out, "image_embeds") else out.pooler_output
        mean = F.normalize(vectors, dim=-1).mean(0)
        return F.normalize(mean, dim=0).cpu().numpy()


def _looks(clip: Clip, count: int) -> list[int]:
    return np.unique(np.linspace(0, clip.num_frames - 1, count).round().astype(int)).tolist()
