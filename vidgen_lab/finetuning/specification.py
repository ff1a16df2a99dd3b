"""What a CogVideoX checkpoint wants to be fed: read from its configuration, asked of its pipeline.

Five published models (2B, 5B, 5B-I2V, 1.5 T2V and I2V) differ in positions, patches, scaling and
conditions, and most mistakes about them run without an error. So there is one place that knows:

    latents   [B, C, t, h, w]  as everywhere in this package, already times the scaling factor
    cells     [B, T, C, h, w]  as diffusers' transformer wants them, T padded to whole tokens

and nothing in it can be set by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch

from vidgen_lab.generation.request import (
    GenerationRequest,
    ModelLimits,
    read_configs,
    validate_request,
)


@dataclass(frozen=True)
class CogVideoXSpec:
    """The inputs and the target of one checkpoint.

    Attributes:
        transformer, vae: their configurations.
        scheduler: the checkpoint's own, of the class it names (another class drops the shift of the
            signal-to-noise ratio).

    Raises:
        ValueError: no published model has this configuration, and nothing here covers it.
    """

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    scheduler: diffusers.CogVideoXDDIMScheduler

    def __post_init__(self) -> None:
        inside, outside = self.transformer["in_channels"], self.latent_channels
        if inside not in (outside, 2 * outside):
            raise ValueError(
                f"the transformer reads {inside} channels for latents of {outside}: text to video "
                f"reads {outside}, image to video {2 * outside}"
            )
        if self.latent_channels != self.vae["latent_channels"]:
            raise ValueError(
                f"transformer and VAE do not belong together: {self.latent_channels} channels "
                f"against {self.vae['latent_channels']}"
            )
        if (kind := self.scheduler.config.prediction_type) != "v_prediction":
            raise ValueError(f"every CogVideoX predicts v, and the scheduler here says {kind!r}")

    @classmethod
    def from_pipe(cls, pipe: Any) -> "CogVideoXSpec":
        """Of a loaded CogVideoX pipeline, text to video or image to video."""
        return cls(pipe.transformer.config, pipe.vae.config, pipe.scheduler)

    @classmethod
    def from_folder(cls, folder: str | Path) -> "CogVideoXSpec":
        """Of a pipeline's folder, without loading weights."""
        transformer, vae, scheduler = read_configs(folder)
        kind = getattr(diffusers, scheduler.get("_class_name", "CogVideoXDDIMScheduler"))
        return cls(transformer, vae, kind.from_config(scheduler))

    # what kind of model -----------------------------------------------------------------------

    @property
    def latent_channels(self) -> int:
        """Channels of a latent frame, as the VAE makes them: 16 in all published models."""
        return int(self.transformer["out_channels"])

    @property
    def image_to_video(self) -> bool:
        """Whether half of the channels it reads are the latents of the first frame."""
        return self.transformer["in_channels"] == 2 * self.latent_channels

    @property
    def pipeline_name(self) -> str:
        """The class of diffusers that samples from this model."""
        return "CogVideoXImageToVideoPipeline" if self.image_to_video else "CogVideoXPipeline"

    @property
    def text_tokens(self) -> int:
        """The length every text is padded to; sin-cos models accept no other."""
        return int(self.transformer["max_text_seq_length"])

    @property
    def limits(self) -> ModelLimits:
        """Sizes and lengths that the pipeline of this model can return."""
        return ModelLimits.from_configs(self.transformer, self.vae, self.scheduler.config)

    def describe(self) -> str:
        """One line: what kind of CogVideoX this is."""
        kind = "image to video" if self.image_to_video else "text to video"
        places = "rotary" if self.transformer.get("use_rotary_positional_embeddings") else "sin-cos"
        joined = self.transformer.get("patch_size_t")
        token = f", {joined} latent frames to a token" if joined else ""
        return f"{kind}, {places} positions{token}, predicts v_prediction"

    def check_size(self, num_frames: int, height: int, width: int) -> None:
        """Refuse clips of a size that cannot be learned.

        These are the sizes the pipeline can return: whatever else is trained on is never seen again
        when sampling.

        Raises:
            RequestError: not one of these; names the nearest legal values.
            ValueError: learned positions do not know it.
        """
        asked = GenerationRequest("size", num_frames=num_frames, height=height, width=width)
        validate_request(asked, self.limits)
        if self.transformer.get("use_learned_positional_embeddings"):
            _, rows, columns = self.limits.native
            if (height, width) != (rows, columns):
                raise ValueError(
                    f"this model has learned positions for {rows}x{columns} alone, not for "
                    f"{height}x{width}"
                )

    # latents ----------------------------------------------------------------------------------

    def cells(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, t, h, w] as cells [B, T, C, h, w]; ValueError for another shape.

        Where several latent frames make a token (1.5), the first is repeated in front until they
        are whole; the pipeline drops as many in front after sampling.
        """
        if latents.ndim != 5 or latents.shape[1] != self.latent_channels:
            raise ValueError(
                f"latents must be [B, {self.latent_channels}, t, h, w], not {list(latents.shape)}"
            )
        latents = latents.transpose(1, 2)  # [B, t, C, h, w]
        extra = -latents.shape[1] % (self.transformer.get("patch_size_t") or 1)
        return torch.cat([latents[:, :1].expand(-1, extra, -1, -1, -1), latents], dim=1)

    def scaled_image(self, latent: torch.Tensor) -> torch.Tensor:
        """Unscaled latents of first frames, [B, C, 1, h, w], scaled as the checkpoint knows them.

        CogVideoX 1.5 divides by the scaling factor where all else multiplies.
        """
        factor = float(self.vae["scaling_factor"])
        return latent * (1 / factor if self.vae.get("invert_scale_latents") else factor)

    # the call ---------------------------------------------------------------------------------

    def inputs(
        self,
        cells: torch.Tensor,
        timesteps: torch.Tensor,
        text: torch.Tensor,
        image: torch.Tensor | None = None,
    ) -> dict[str, Any]:
        """The arguments of the transformer, all that the stock pipeline passes.

        Args:
            cells: noisy, [B, T, C, h, w].
            timesteps: [B].
            text: [B, L, D].
            image: scaled latents of first frames [B, C, 1, h, w], for image-to-video models and for
                these alone.

        Raises:
            ValueError: a shape is another, or there is an image too many or too few.
        """
        batch, count, channels, height, width = cells.shape
        # 16 latent frames of 16 channels pass in the wrong order: only the caller can know.
        if channels != self.latent_channels:
            raise ValueError(f"cells must be [B, T, {self.latent_channels}, h, w]: see `cells`")
        if text.shape[:2] != (batch, self.text_tokens):
            raise ValueError(f"text must be [{batch}, {self.text_tokens}, D], not {text.shape}")
        if timesteps.shape != (batch,):
            raise ValueError(f"timesteps must be [{batch}], not {list(timesteps.shape)}")
        if (image is not None) != self.image_to_video:
            needs = "needs" if self.image_to_video else "does not read"
            raise ValueError(f"this model {needs} the latents of a first frame")
        if image is not None:
            first = torch.zeros_like(cells)  # nothing behind the first frame
            first[:, :1] = image.transpose(1, 2)
            cells = torch.cat([cells, first], dim=2)
        given: dict[str, Any] = {
            "hidden_states": cells,
            "encoder_hidden_states": text,
            "timestep": timesteps,
            "image_rotary_emb": self._rotary(count, height, width, cells.device),
        }
        if self.transformer.get("ofs_embed_dim") is not None:
            given["ofs"] = cells.new_full((1,), 2.0)  # what the pipeline always feeds
        return given

    def _rotary(self, count: int, height: int, width: int, device: torch.device) -> Any:
        """Cosines and sines [tokens, head_dim] from the pipeline's own function, never a copy."""
        if not self.transformer.get("use_rotary_positional_embeddings"):
            return None
        space = 2 ** (len(self.vae["block_out_channels"]) - 1)
        config = SimpleNamespace(**({"patch_size_t": None} | dict(self.transformer)))
        pipe = SimpleNamespace(
            vae_scale_factor_spatial=space, transformer=SimpleNamespace(config=config)
        )
        make = diffusers.CogVideoXPipeline._prepare_rotary_positional_embeddings
        return make(pipe, height * space, width * space, count, device)

    # what is learned --------------------------------------------------------------------------

    def target(
        self, cells: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """What the transformer should say, float32 [B, T, C, h, w].

        v = sqrt(alpha-bar) noise - sqrt(1 - alpha-bar) cells, with clean cells and noise of that
        shape, at timesteps [B] (Salimans and Ho 2022, section 4).
        """
        return self.scheduler.get_velocity(cells.float(), noise.float(), timesteps)

    def loss(
        self,
        transformer: diffusers.CogVideoXTransformer3DModel,
        latents: torch.Tensor,
        text: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        image: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean squared error of every clip, float32 [B].

        For a v-model this is CogVideoX's own loss: its error on x0 weighted by 1/(1 - alpha-bar) is
        the plain error on v, which does not lose its digits at small timesteps.

        Args:
            transformer: called once.
            latents: clean, [B, C, t, h, w].
            text: [B, L, D].
            noise: [B, T, C, h, w], the shape of `cells(latents)`.
            timesteps: [B].
            image: as for `inputs`.
        """
        # In bfloat16 the factor 0.9991 of the first step would become 1.
        cells, noise = self.cells(latents).float(), noise.float()
        noisy = self.scheduler.add_noise(cells, noise, timesteps)
        given = self.inputs(noisy, timesteps, text.float(), image)
        predicted = transformer(**given, return_dict=False)[0]
        error = predicted.float() - self.target(cells, noise, timesteps)
        return error.square().flatten(1).mean(1)
