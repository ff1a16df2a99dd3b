"""Tiny random-weight CogVideoX folders in the published layouts, for tests without a net.

`build_tiny(folder, layout)` writes a complete diffusers pipeline folder of about half a megabyte
that samples a 32x32 clip of 9 frames in a tenth of a second:

    "2b"   sin-cos positions added to the tokens, as CogVideoX-2B
    "5b"   rotary positions, as CogVideoX-5B
    "1.5"  rotary positions and two latent frames to a token, as CogVideoX 1.5

and, from image to video, with twice the channels to read:

    "5b-i2v"   as "5b", learned positions beside the rotary ones
    "1.5-i2v"  as "1.5", with an offset embedding
"""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

LAYOUTS = ("2b", "5b", "1.5")
IMAGE_LAYOUTS = ("5b-i2v", "1.5-i2v")
MAX_TEXT_TOKENS = 12
WORDS = ("a", "the", "red", "blue", "ball", "star", "rose", "moving", "left", "bouncing", "ocean")

# The published scheduler settings; 2B shifts the signal-to-noise ratio by 3, the others by 1.
SCHEDULER = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
    clip_sample=False,
    set_alpha_to_one=True,
)


def build_tiny(folder: str | Path, layout: str = "2b", seed: int = 0) -> Path:
    """Write a tiny random model in one of the layouts to `folder`; the same for the same seed."""
    tiny_pipeline(layout, seed).save_pretrained(folder)
    return Path(folder)


def tiny_pipeline(
    layout: str = "2b", seed: int = 0
) -> CogVideoXPipeline | CogVideoXImageToVideoPipeline:
    """The same model in memory."""
    assert layout in (*LAYOUTS, *IMAGE_LAYOUTS), layout
    rotary, joined = layout != "2b", layout.startswith("1.5")
    from_image = layout in IMAGE_LAYOUTS
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,  # rotary positions need a multiple of 16
            in_channels=8 if from_image else 4,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=32,
            num_layers=2,
            sample_width=8 if joined else 4,  # 1.5 makes no frames larger than this
            sample_height=8 if joined else 4,
            sample_frames=17 if joined else 9,
            patch_size=2,
            patch_size_t=2 if joined else None,
            ofs_embed_dim=8 if layout == "1.5-i2v" else None,
            max_text_seq_length=MAX_TEXT_TOKENS,
            use_rotary_positional_embeddings=rotary,
            use_learned_positional_embeddings=layout == "5b-i2v",
        )
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            sample_height=32,
            sample_width=32,
            scaling_factor=0.7 if rotary else 1.15258426,
            invert_scale_latents=joined,
        )
        text_encoder = T5EncoderModel(
            T5Config(vocab_size=32, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        )
    scheduler = CogVideoXDDIMScheduler(**SCHEDULER, snr_shift_scale=1.0 if rotary else 3.0)
    pipeline = CogVideoXImageToVideoPipeline if from_image else CogVideoXPipeline
    return pipeline(
        tokenizer=word_tokenizer(),
        text_encoder=text_encoder.eval(),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=scheduler,
    )


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, </s> at the end, as T5's tokenizer does; unknown words share a token."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
