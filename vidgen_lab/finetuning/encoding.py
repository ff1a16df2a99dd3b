"""Texts and clips, encoded once before the training and kept: text encoder first, then freed.

T5 alone is larger than CogVideoX-2B, so the two never share the memory: captions are encoded, the
encoder goes, clips are encoded, the VAE goes, and only then the transformer is loaded.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from accelerate.utils.memory import clear_device_cache
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.utils.data import Dataset

from vidgen_lab.files import write_files
from vidgen_lab.finetuning.dataset import TrainingClip
from vidgen_lab.finetuning.specification import CogVideoXSpec
from vidgen_lab.generation.loading import dtype_keyword
from vidgen_lab.generation.request import count_tokens
from vidgen_lab.journal import key_of
from vidgen_lab.progress import Progress, quiet_loading
from vidgen_lab.training import distributed
from vidgen_lab.training.data.clip_encoding import raw_bytes
from vidgen_lab.training.data.latent_cache import LatentCache

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, T5EncoderModel

TILED_FROM = 2**22  # values of a clip in time, height and width: beyond, it is encoded in tiles
AT_ONCE = 8  # texts
_RECIPE = 1  # raise it when the same text and encoder would give other numbers than before


class TextCache:
    """What a text encoder says of texts, one KEY.safetensors each in `folder`.

    The key is a hash of the text's token ids and of the encoder's weights, so another encoder or a
    changed text is simply not there yet. Holds no model: loading works in any process.
    """

    def __init__(self, folder: str | Path, max_tokens: int) -> None:
        self.folder, self.max_tokens = Path(folder), max_tokens
        self._keys: dict[str, str] = {}

    def encode(
        self,
        texts: Iterable[str],
        tokenizer: "PreTrainedTokenizerBase",
        encoder: "T5EncoderModel",
    ) -> dict[str, torch.Tensor]:
        """Encode what is missing; returns the token ids [L] of every text.

        The numbers are those of `CogVideoXPipeline.encode_prompt`. Raises ValueError naming the
        texts that the model would not read to their end.
        """
        texts = list(dict.fromkeys(texts))
        long = [text for text in texts if count_tokens(tokenizer, text) > self.max_tokens]
        if long:
            raise ValueError(
                f"{len(long)} texts have more than the {self.max_tokens} tokens that this model "
                f"reads; shorten them, {long[0][:60]!r} first"
            )
        digest = hashlib.sha256(str(encoder.dtype).encode())
        for name, weight in sorted(encoder.state_dict().items()):
            digest.update(f"{name} {list(weight.shape)}".encode())
            digest.update(raw_bytes(weight))
        identity = digest.hexdigest()[:32]
        padded = {"padding": "max_length", "max_length": self.max_tokens, "return_tensors": "pt"}
        ids = {text: tokenizer(text, **padded).input_ids[0] for text in texts}
        self._keys |= {
            text: key_of(_RECIPE, identity, self.max_tokens, one.tolist())
            for text, one in ids.items()
        }
        missing = [text for text in texts if self._load(text) is None]
        self.folder.mkdir(parents=True, exist_ok=True)
        with Progress(len(missing), "texts", "text", disable=not missing) as bar:
            for start in range(0, len(missing), AT_ONCE):
                group = missing[start : start + AT_ONCE]
                stacked = torch.stack([ids[text] for text in group]).to(encoder.device)
                with torch.no_grad():
                    said = encoder(stacked)[0].cpu()  # [B, L, D]
                for text, one in zip(group, said, strict=True):
                    write_files({self._path(text): save({"text": one.clone()})})
                bar.update(len(group))
        return ids

    def load(self, text: str) -> torch.Tensor:
        """[L, D], in the encoder's precision. KeyError for a text that was not encoded."""
        if (found := self._load(text)) is None:
            raise KeyError(f"not encoded yet: {text!r}")
        return found

    def _load(self, text: str) -> torch.Tensor | None:
        if text not in self._keys:
            return None
        try:
            return load_file(self._path(text))["text"]
        except (FileNotFoundError, SafetensorError):
            return None  # a torn file is made anew

    def _path(self, text: str) -> Path:
        return self.folder / f"{self._keys[text]}.safetensors"


class KnownTexts(nn.Module):
    """Stands where a pipeline has its text encoder, and knows the texts that were encoded.

    So the pipeline, and with it the one function that generates, runs without T5 in memory, and
    holds no text that it is not asked for. Raises KeyError for any other. ids: by text, from
    `TextCache.encode`.
    """

    def __init__(self, cache: TextCache, ids: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.cache, self.known = cache, {tuple(one.tolist()): text for text, one in ids.items()}
        one = cache.load(next(iter(ids)))
        self.dtype, self.device = one.dtype, one.device

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor]:
        """ids: [B, L] -> ([B, L, D],)."""
        try:
            said = [self.cache.load(self.known[tuple(one.tolist())]) for one in ids]
        except KeyError:
            raise KeyError("this text was not encoded before the training") from None
        return (torch.stack(said).to(ids.device),)


class LatentDataset(Dataset):
    """Clips as cached latents and texts: what a step of fine-tuning needs of each.

    An item: {"latents": [C, t, h, w] scaled, "text": [L, D], "id": str}, and "image": [C, 1, h, w]
    for image-to-video models. Latents are drawn anew from the posterior, and the text left out, by
    PyTorch's default generator, which the trainer seeds for every item. With `prior`, every second
    item is one of those clips; the shorter list begins anew until the longer one is through.
    """

    def __init__(
        self,
        clips: Sequence[TrainingClip],
        latents: LatentCache,
        texts: TextCache,
        spec: CogVideoXSpec,
        caption_dropout: float = 0.0,
        prior: Sequence[TrainingClip] = (),
    ) -> None:
        both = (clips, prior) if prior else (clips,)
        self.clips = [each[n % len(each)] for n in range(max(map(len, both))) for each in both]
        self.latents, self.texts, self.spec = latents, texts, spec
        self.caption_dropout = caption_dropout
        self._keys = {clip.span: latents.key(clip.span) for clip in self.clips}
        if spec.image_to_video:
            self._keys |= {clip.image: latents.key(clip.image) for clip in self.clips}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[index]
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        left_out = bool(torch.rand((), generator=generator) < self.caption_dropout)
        item = {
            "latents": self.latents.load(self._keys[clip.span], generator),
            "text": self.texts.load("" if left_out else clip.caption),
            "id": clip.id,
        }
        if self.spec.image_to_video:
            mean, logvar = (part.float() for part in self.latents.moments(self._keys[clip.image]))
            noise = torch.randn(mean.shape, generator=generator)
            item["image"] = self.spec.scaled_image(mean + torch.exp(0.5 * logvar) * noise)
        return item


def encode_texts(
    model: Path,
    folder: Path,
    texts: Iterable[str],
    max_tokens: int,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[TextCache, dict[str, torch.Tensor]]:
    """Load a pipeline's text encoder, encode, and free it; returns the cache and the token ids."""
    from transformers import AutoTokenizer, T5EncoderModel

    cache = TextCache(folder, max_tokens)
    tokenizer = AutoTokenizer.from_pretrained(model / "tokenizer")
    with quiet_loading(model):
        encoder = T5EncoderModel.from_pretrained(model / "text_encoder", dtype=dtype)
    encoder.to(device).eval().requires_grad_(False)
    for part in _shares(list(dict.fromkeys(texts))):
        ids = cache.encode(part, tokenizer, encoder)
    del encoder
    clear_device_cache(garbage_collection=True)
    return cache, ids


def encode_clips(
    model: Path,
    folder: Path,
    clips: Sequence[TrainingClip],
    with_images: bool,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LatentCache:
    """Load a pipeline's VAE, encode clips (and first frames), and free it; returns the cache.

    Large clips are encoded in tiles: 49 frames of 480x720 take 30 to 40 GB without. Small ones are
    not, because tiles have seams.
    """
    from diffusers import AutoencoderKLCogVideoX

    vae = AutoencoderKLCogVideoX.from_pretrained(model / "vae", **{dtype_keyword(): dtype})
    vae.to(device).eval().requires_grad_(False)
    vae.enable_slicing()
    if max(math.prod(clip.span.shape) for clip in clips) >= TILED_FROM:
        vae.enable_tiling()
    cache = LatentCache(folder, vae)
    images = [clip.image for clip in clips] if with_images else []
    for part in _shares([*(clip.span for clip in clips), *images]):
        cache.encode(part, 1)
    cache.vae = None
    clear_device_cache(garbage_collection=True)
    return cache


def _shares(items: list[Any]) -> Iterator[list[Any]]:
    """This process's part, and when all processes are done with theirs, everything."""
    if distributed.active():
        yield items[dist.get_rank() :: dist.get_world_size()]
        distributed.gathered(None)
    yield items
