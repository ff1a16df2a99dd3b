"""Will it fit? A memory estimate for generating with CogVideoX, with every term shown.

The terms are counted from the architecture; two constants are fitted to the figures that the
diffusers documentation measured for CogVideoX-2B at 49x480x720 (33 GB plain, 19 GB with model
offload, 11 GB with tiling as well). A test holds the estimate against those and the README's.
"""

from dataclasses import dataclass

GIB = 2**30

# Parameters in billions, hidden width of the transformer: counted with `anatomy.meta_model`.
MODELS = {"CogVideoX-2B": (1.694, 1920), "CogVideoX-5B": (5.570, 3072)}
TEXT_ENCODER, VAE = 4.762, 0.216
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}

# Live tensors at the peak, in units of one activation. A transformer block holds about fourteen
# (queries, keys, values, the four-fold feed-forward twice); the decoder's last stage holds about
# twenty-four of 128 channels at full size, in chunks of nine frames.
TRANSFORMER_TENSORS, DECODER_TENSORS = 14, 24
DECODER_CHANNELS, DECODER_FRAMES = 128, 9


@dataclass(frozen=True)
class Plan:
    """Peak GPU memory of one generation. All sizes in GiB.

    weights: of each part. work: what each stage needs beside its weights. peak: the largest sum
    that is on the GPU at one time, at the given offload mode.
    """

    model: str
    weights: dict[str, float]
    work: dict[str, float]
    offload: str
    peak: float

    def fits(self, vram_gib: float, spare: float = 1.0) -> bool:
        """Whether it fits a card, leaving `spare` for the driver and fragmentation."""
        return self.peak + spare <= vram_gib

    def explain(self) -> str:
        """The sum in words."""
        parts = ", ".join(f"{name} {gib:.1f}" for name, gib in self.weights.items())
        work = ", ".join(f"{name} {gib:.1f}" for name, gib in self.work.items())
        rule = {
            "none": "all weights + the largest work",
            "model": "the largest (weights + work) of one part",
            "sequential": "the largest work, one layer at a time",
        }[self.offload]
        return f"weights {parts}; work {work}; offload {self.offload}: {rule} = {self.peak:.1f} GiB"


def plan(
    model: str = "CogVideoX-2B",
    height: int = 480,
    width: int = 720,
    num_frames: int = 49,
    dtype: str = "float16",
    offload: str = "none",
    tiling: bool = False,
    guidance: bool = True,
) -> Plan:
    """Estimate the peak memory of one generation.

    offload: "none", "model" or "sequential". tiling: decode a quarter of the frame at a time.
    guidance: classifier-free guidance doubles the transformer's batch. Activations stay at two
    bytes when the weights are int8. Raises ValueError for an unknown model, dtype or offload.
    """
    if model not in MODELS or dtype not in BYTES or offload not in ("none", "model", "sequential"):
        raise ValueError(
            f"unknown model, dtype or offload: {model!r}, {dtype!r}, {offload!r}; "
            f"models: {', '.join(MODELS)}; dtypes: {', '.join(BYTES)}"
        )
    billions, hidden = MODELS[model]
    size, number = BYTES[dtype], max(BYTES[dtype], 2)
    weights = {
        "text encoder": TEXT_ENCODER * 1e9 * size / GIB,
        "transformer": billions * 1e9 * size / GIB,
        "decoder": VAE * 1e9 * size / GIB,
    }
    tokens = ((num_frames - 1) // 4 + 1) * (height // 16) * (width // 16) + 226
    activation = (1 + guidance) * tokens * hidden * number / GIB
    pixels = height * width / (4 if tiling else 1)
    feature = pixels * min(num_frames, DECODER_FRAMES) * DECODER_CHANNELS * number / GIB
    work = {
        "text encoder": 0.1,
        "transformer": activation * TRANSFORMER_TENSORS,
        "decoder": feature * DECODER_TENSORS,
    }
    peak = {
        "none": sum(weights.values()) + max(work.values()),
        "model": max(weights[part] + work[part] for part in weights),
        "sequential": max(work.values()) + 0.3,  # the largest single layer, twice
    }[offload]
    return Plan(model, weights, work, offload, peak)
