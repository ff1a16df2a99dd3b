"""What the base model makes of old prompts, to be trained on beside the new clips.

Then a fine-tuning that would forget them is pulled back to what it could (prior preservation, as
in DreamBooth, Ruiz et al. 2022).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen_lab.files import write_files
from vidgen_lab.generation.generate import generate
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.video.writer import write_clip

if TYPE_CHECKING:
    from diffusers import CogVideoXPipeline


def make_prior(
    pipe: "CogVideoXPipeline",
    prompts: Sequence[str],
    folder: str | Path,
    request: GenerationRequest,
) -> Path:
    """One clip of every prompt, in CogVideo's layout: a folder for `DataConfig.prior`.

    request: everything but the prompt and the seed, which is request.seed plus the clip's number.
    Clips that are there already are kept, so that a killed run goes on; the lists come last.
    Raises ValueError without prompts.
    """
    if not prompts:
        raise ValueError("there is no prompt to make clips of")
    folder = Path(folder)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    names = [f"videos/{n:05d}.mp4" for n in range(len(prompts))]
    for n, (name, prompt) in enumerate(zip(names, prompts, strict=True)):
        if not (folder / name).is_file():
            asked = request.with_(prompt=prompt, seed=request.seed + n)
            write_clip(generate(pipe, asked).clip, folder / name)
    lists = {"prompts.txt": [" ".join(p.split()) for p in prompts], "videos.txt": names}
    write_files({folder / name: "".join(f"{x}\n" for x in rows) for name, rows in lists.items()})
    return folder
