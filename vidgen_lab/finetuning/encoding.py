"""Texts and clips, encoded once before the training and kept: text encoder first, then freed.

T5 alone is larger than CogVideoX-2B, so the two never share the memory: captions are encoded, the
encoder goes, clips are encoded, the VAE goes, and only then the transformer is loaded.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils.memory import clear_device_cache
from diffusers import AutoencoderKLCogVideoX
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.utils.data import Dataset
from transformers import AutoTokenizer, T5EncoderModel

from vidgen_lab.files import write_files
from vidgen_lab.finetuning.dataset import TrainingClip
from vidgen_lab.finetuning.specification import CogVideoXSpec
from vidgen_lab.generation.stock import DTYPE
from vidgen_lab.journal import key_of
from vidgen_lab.progress import Progress, quiet_loading
from vidgen_lab.training import distributed
from vidgen_lab.training.data.clip_encoding import raw_bytes
from vidgen_lab.training.data.latent_cache import LatentCache

TILED_FROM = 2**22  # values of a clip in time, height and width: beyond, it is encoded in tiles
AT_ONCE = 8  # texts
_RECIPE = 1  # raise it when the same text and encoder would give other numbers than before


class TextCache(nn.Module):
    """What a text encoder says of texts, one KEY.safetensors each in `folder`.

    The key is a hash of the text's token ids and of the encoder's weights, so another encoder or a
    changed text is simply not there yet. Holds no model, and loads in any process: a pipeline that
    has it in the place of its text encoder, and with it the one function that generates, runs
    without T5 in memory.

    Args:
        encoder: gives its part of the keys, and is not kept.
        ids: the tokens [L] of each text.
    """

    device = torch.device("cpu")

    def __init__(
        self, folder: Path, encoder: T5EncoderModel, ids: Mapping[str, torch.Tensor]
    ) -> None:
        super().__init__()
        self.folder, self.ids, self.dtype = folder, ids, encoder.dtype
        digest = hashlib.sha256(str(encoder.dtype).encode())
        for name, weight in sorted(encoder.state_dict().items()):
            digest.update(f"{name} {list(weight.shape)}".encode())
            digest.update(raw_bytes(weight))
        self.encoder_id = digest.hexdigest()[:32]

    def load(self, text: str) -> torch.Tensor:
        """A text that was encoded, [L, D], in the encoder's precision; else KeyError."""
        return self(self.ids[text][None])[0][0]

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor]:
        """Token ids [B, L] -> ([B, L, D],). KeyError for a text that was not encoded."""
        try:
            said = [load_file(self.path(one))["text"] for one in ids]
        except (FileNotFoundError, SafetensorError):  # a torn file is made anew
            raise KeyError("this text was not encoded before the training") from None
        return (torch.stack(said).to(ids.device),)

    def path(self, ids: torch.Tensor) -> Path:
        """Where the text of these tokens [L] lies."""
        key = key_of(_RECIPE, self.encoder_id, len(ids), ids.tolist())
        return self.folder / f"{key}.safetensors"

    def lacks(self, text: str) -> bool:
        """Whether a text is still to be encoded."""
        try:
            self.load(text)
        except KeyError:
            return True
        return False


class LatentDataset(Dataset):
    """Clips as cached latents and texts: what a step of fine-tuning needs of each.

    An item: {"latents": [C, t, h, w] scaled, "text": [L, D], "id": str}, and "image": [C, 1, h, w]
    for image-to-video models. Latents are drawn anew from the posterior, and the text left out, by
    PyTorch's default generator, which the trainer seeds for every item. With `prior`, every second
    item is one of those clips; the shorter list begins anew until the longer one is through. The
    caches must have all clips (for image-to-video models, first frames too), captions, and "".
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
        seen = [clip.span for clip in self.clips]
        seen += [clip.image for clip in self.clips if spec.image_to_video]
        self._keys = {span: latents.key(span) for span in seen}

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
            image = self.latents.load(self._keys[clip.image], generator)
            item["image"] = self.spec.scaled_image(image / self.latents.scaling_factor)
        return item


@torch.no_grad()
def encode_texts(
    model: Path,
    folder: Path,
    texts: Iterable[str],
    max_tokens: int,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TextCache:
    """Load a pipeline's text encoder, encode what is missing, and free it.

    The numbers are those of `CogVideoXPipeline.encode_prompt`, every text padded to `max_tokens`.
    `model` is the pipeline's folder and `folder` the cache's; `dtype` is what the encoder computes
    in and what is stored. Several processes share the work.

    Raises:
        ValueError: texts have more than `max_tokens` tokens; names the first.
    """
    tokenizer = AutoTokenizer.from_pretrained(model / "tokenizer")
    how = {"padding": "max_length", "max_length": max_tokens, "return_tensors": "pt"}
    ids = {text: tokenizer(text, verbose=False, **how).input_ids[0] for text in texts}
    if long := [text for text, one in ids.items() if len(one) > max_tokens]:
        raise ValueError(
            f"{len(long)} texts have more than the {max_tokens} tokens that this model reads; "
            f"shorten them, {long[0][:60]!r} first"
        )
    with quiet_loading(model):
        encoder = T5EncoderModel.from_pretrained(model / "text_encoder", dtype=dtype)
    encoder.to(device).eval()
    cache = TextCache(folder, encoder, ids)
    folder.mkdir(parents=True, exist_ok=True)
    for part in _shares(list(ids)):
        missing = [ids[text] for text in part if cache.lacks(text)]
        with Progress(len(missing), "texts", "text", disable=not missing) as bar:
            for start in range(0, len(missing), AT_ONCE):
                group = torch.stack(missing[start : start + AT_ONCE])
                for one, said in zip(group, encoder(group.to(device))[0].cpu(), strict=True):
                    write_files({cache.path(one): save({"text": said.clone()})})  # [L, D]
                bar.update(len(group))
    del encoder
    clear_device_cache(garbage_collection=True)
    return cache


def encode_clips(
    model: Path,
    folder: Path,
    clips: Sequence[TrainingClip],
    with_images: bool,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LatentCache:
    """Load a pipeline's VAE, encode clips, and free it; returns the cache.

    Large clips are encoded in tiles: 49 frames of 480x720 take 30 to 40 GB without. Small ones are
    not, because tiles have seams. `with_images` has first frames encoded, too; all else is as for
    `encode_texts`. Raises what `LatentCache.encode` raises.
    """
    vae = AutoencoderKLCogVideoX.from_pretrained(model / "vae", **{DTYPE: dtype})
    vae.to(device).eval()
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
