"""Reference models for the parity tests: diffusers' Latte in several layouts, the original's layout
rebuilt from its description, and a small text encoder. All tiny, all with randomised weights.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, LatteTransformer3DModel
from torch import Tensor, nn

from vidgen_lab.latte import FrameVAE, Latte, LatteConfig, TextEncoder
from vidgen_lab.latte.text import TextEmbedding

BASE = dict(
    num_attention_heads=2,
    attention_head_dim=8,
    in_channels=4,
    out_channels=8,
    num_layers=2,
    cross_attention_dim=16,
    attention_bias=True,
    sample_size=8,
    patch_size=2,
    activation_fn="gelu-approximate",
    num_embeds_ada_norm=1000,
    norm_type="ada_norm_single",
    norm_elementwise_affine=False,
    norm_eps=1e-6,
    caption_channels=12,
    video_length=3,
)

# name -> (overrides, height, width) of the latents
LAYOUTS: dict[str, tuple[dict, int, int]] = {
    "text": ({}, 8, 8),
    "text, other sizes": ({}, 6, 12),
    "no cross-attention": ({"cross_attention_dim": None}, 8, 8),
    "no qkv bias": ({"attention_bias": False}, 8, 8),
    "fixed variance, 5 frames": ({"out_channels": 4, "video_length": 5}, 8, 8),
    "large sample size": ({"sample_size": 128}, 8, 12),
    "patch 4, three heads": (
        {"patch_size": 4, "num_attention_heads": 3, "cross_attention_dim": 24, "num_layers": 1},
        8,
        8,
    ),
    "one frame": ({}, 8, 8),
}


def randomise(model: nn.Module, seed: int = 0, std: float = 0.1) -> nn.Module:
    """Fill every parameter with noise: gates at zero would hide whatever is behind them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * std)
    return model


def reference(layout: str = "text", seed: int = 0, **overrides) -> LatteTransformer3DModel:
    """A randomised LatteTransformer3DModel."""
    settings = {**BASE, **LAYOUTS[layout][0], **overrides}
    return randomise(LatteTransformer3DModel(**settings), seed).eval()


def inputs(layout: str = "text", batch: int = 2, dtype=torch.float32) -> dict[str, Tensor]:
    """Latents, timesteps and text that fit the layout."""
    overrides, height, width = LAYOUTS[layout]
    settings = {**BASE, **overrides}
    frames = 1 if layout == "one frame" else settings["video_length"]
    g = torch.Generator().manual_seed(1)
    shape = (batch, settings["in_channels"], frames, height, width)
    return {
        "x": torch.randn(shape, generator=g, dtype=dtype),
        "t": torch.tensor([3, 700])[:batch],
        "text": torch.randn(batch, 7, settings["caption_channels"], generator=g, dtype=dtype),
    }


def run(model: LatteTransformer3DModel | Latte, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
    """The same call for both libraries."""
    if isinstance(model, Latte):
        return model(x, t, text=text) if model.config.condition == "text" else model(x, t)
    return model(x, encoder_hidden_states=text, timestep=t).sample


class VchitectLatte(nn.Module):
    """The original Latte, rebuilt from its description with its own weight names, in plain code.

    Written without any piece of the package, so that agreement means something: it repeats the
    condition for every frame and patch, rearranges tokens before each block, keeps positions as
    parameters and takes [B, F, C, H, W].
    """

    def __init__(self, depth=4, dim=24, heads=3, patch=2, channels=4, frames=3, side=8, classes=5):
        super().__init__()
        self.depth, self.heads, self.patch, self.frames = depth, heads, patch, frames
        self.x_embedder = nn.Module()
        self.x_embedder.proj = nn.Conv2d(channels, dim, patch, patch)
        self.t_embedder = nn.Module()
        self.t_embedder.mlp = nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))
        if classes:
            self.y_embedder = nn.Module()
            self.y_embedder.embedding_table = nn.Embedding(classes + 1, dim)
        self.pos_embed = nn.Parameter(self.grid(dim, side // patch), requires_grad=False)
        self.temp_embed = nn.Parameter(self.line(dim, frames), requires_grad=False)
        self.blocks = nn.ModuleList(self.block(dim) for _ in range(depth))
        self.final_layer = nn.Module()
        self.final_layer.linear = nn.Linear(dim, patch * patch * 2 * channels)
        self.final_layer.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        for p in self.parameters():
            if p.requires_grad:
                nn.init.normal_(p, std=0.1)

    @staticmethod
    def line(dim, length, pos=None):
        pos = torch.arange(length, dtype=torch.float64) if pos is None else pos
        omega = 10000 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
        angle = pos[:, None] * omega
        return torch.cat([angle.sin(), angle.cos()], 1).float()[None]

    @classmethod
    def grid(cls, dim, side):
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        x, y = (cls.line(dim // 2, 0, v.flatten().double()) for v in (x, y))
        return torch.cat([x, y], 2)

    @staticmethod
    def block(dim):
        b = nn.Module()
        b.attn, b.mlp = nn.Module(), nn.Module()
        b.attn.qkv, b.attn.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        b.mlp.fc1, b.mlp.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        b.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        return b

    def run_block(self, b, x, c):
        norm = lambda v: nn.functional.layer_norm(v, v.shape[-1:], eps=1e-6)  # noqa: E731
        sh1, sc1, g1, sh2, sc2, g2 = b.adaLN_modulation(c)[:, None].chunk(6, -1)
        h = norm(x) * (1 + sc1) + sh1
        q, k, v = b.attn.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        a = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        x = x + g1 * b.attn.proj(a.transpose(1, 2).flatten(2))
        h = nn.functional.gelu(b.mlp.fc1(norm(x) * (1 + sc2) + sh2), approximate="tanh")
        return x + g2 * b.mlp.fc2(h)

    def forward(self, x, t, y=None):
        batch, frames, _, height, width = x.shape
        x = self.x_embedder.proj(x.flatten(0, 1)).flatten(2).transpose(1, 2) + self.pos_embed
        patches = x.shape[1]
        freq = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(128) / 128)
        angle = t[:, None].float() * freq
        code = torch.cat([angle.cos(), angle.sin()], 1).to(self.x_embedder.proj.weight.dtype)
        c = self.t_embedder.mlp(code)
        if y is not None:
            c = c + self.y_embedder.embedding_table(y)
        per_frame, per_patch = c.repeat_interleave(frames, 0), c.repeat_interleave(patches, 0)
        for i, b in enumerate(self.blocks):
            if i % 2 == 0:
                x = self.run_block(b, x, per_frame)
                continue
            x = x.unflatten(0, (batch, frames)).transpose(1, 2).flatten(0, 1)
            if i == 1:
                x = x + self.temp_embed
            x = self.run_block(b, x, per_patch)
            x = x.unflatten(0, (batch, patches)).transpose(1, 2).flatten(0, 1)
        shift, scale = self.final_layer.adaLN_modulation(per_frame)[:, None].chunk(2, -1)
        x = nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
        p, side_h, side_w = self.patch, height // self.patch, width // self.patch
        x = self.final_layer.linear(x).reshape(-1, side_h, side_w, p, p, 8)
        x = torch.einsum("nhwpqc->nchpwq", x).reshape(batch, frames, 8, height, width)
        return x


def with_weights_of(original: VchitectLatte) -> Latte:
    """Our model with a modulation of its own in every block, and the original's weights in it."""
    theirs = dict(original.state_dict())
    classes = len(theirs.get("y_embedder.embedding_table.weight", ())) - 1
    ours = Latte(LatteConfig(
        sample_size=8, num_frames=original.frames, patch_size=original.patch, hidden_size=24,
        depth=original.depth, num_heads=original.heads, modulation="block",
        condition="class" if classes > 0 else "none", num_classes=max(classes, 0),
    ))  # fmt: skip
    names = {
        "x_embedder.proj": "patch_embed.proj",
        "t_embedder.mlp.0": "time_embed.linear_1",
        "t_embedder.mlp.2": "time_embed.linear_2",
        "final_layer.adaLN_modulation.1": "final.linear",
        "final_layer.linear": "final.proj",
    }
    if classes > 0:
        names["y_embedder.embedding_table"] = "label_embed.table"
    for i in range(original.depth):
        block = f"blocks.{i // 2}.{('spatial', 'temporal')[i % 2]}"
        names |= {
            f"blocks.{i}.attn.proj": f"{block}.attention.out",
            f"blocks.{i}.mlp.fc1": f"{block}.mlp.up",
            f"blocks.{i}.mlp.fc2": f"{block}.mlp.down",
            f"blocks.{i}.adaLN_modulation.1": f"{block}.modulation.linear",
        }
        for kind in ("weight", "bias"):
            parts = theirs.pop(f"blocks.{i}.attn.qkv.{kind}").chunk(3)
            theirs |= {
                f"{block}.attention.{n}.{kind}": p for n, p in zip("qkv", parts, strict=True)
            }
    for place in ("pos_embed", "temp_embed"):  # tables on both sides: nothing to load
        theirs.pop(place)
    for name in list(theirs):
        module, _, kind = name.rpartition(".")
        theirs[f"{names.get(module, module)}.{kind}"] = theirs.pop(name)
    ours.load_state_dict(theirs, strict=True)
    return ours


def small_vae() -> FrameVAE:
    """Four levels, so that a latent stands for 8 pixels a side."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4}
    blocks |= {"up_block_types": ("UpDecoderBlock2D",) * 4, "block_out_channels": (8, 8, 8, 8)}
    vae = AutoencoderKL(**blocks, layers_per_block=1, norm_num_groups=4, scaling_factor=1.0)
    return FrameVAE(vae.eval())


def stock_pair(
    encoder: TextEncoder, prompt: str, negative: str = ""
) -> tuple[TextEmbedding, TextEmbedding]:
    """Prompt and negative prompt as stock LattePipeline prepares a single one, for equal results.

    It cuts the padding off the prompt, then cuts the negative prompt to the same length, and masks
    nothing.
    """
    text, null = encoder.encode(prompt), encoder.encode(negative)
    length = int(text.mask.sum())
    real = torch.ones_like(text.mask[:, :length])
    return (
        TextEmbedding(text.embeddings[:, :length], real),
        TextEmbedding(null.embeddings[:, :length], real),
    )


def tiny_text_pair(width: int = 12):
    """A word-level tokenizer and a randomised T5 encoder, as transformers makes them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    words = ["a", "the", "red", "blue", "ball", "star", "moving", "left", "right"]
    words += ["over", "ocean", "night", "sky"]
    vocabulary = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *words])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    config = T5Config(
        vocab_size=len(vocabulary), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2
    )
    model = T5EncoderModel(config)
    return tokenizer, randomise(model, seed=5, std=0.5).eval()
