"""The README's animated picture: a dozen prompts, each above the clip that the shipped model makes.

``python -m tools.prompts`` writes docs/images/prompts.png. The prompts are such as the model shows
well (its card has others). Each gets the same seed and the defaults of tier `tiny`; no clip is
chosen among several.
"""

from pathlib import Path

from vidgen_lab.files import write_files
from vidgen_lab.generation.generate import generate
from vidgen_lab.generation.loading import load_pipeline
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.progress import Progress
from vidgen_lab.settings.tiers import load_tiers
from vidgen_lab.video.sheets import clip_sheet
from vidgen_lab.video.show import animated_png

PROMPTS = (
    "a red ball bouncing over the ocean",
    "a golden retriever running through a sunlit meadow",
    "a yellow star growing in a night sky",
    "a blue car driving through a city",
    "a purple rocket taking off in the desert",
    "a red rose blooming in a forest",
    "a red lighthouse sweeping its beam over the ocean",
    "an orange fish swimming in the ocean",
    "a pink heart bouncing in the snow",
    "a green ring orbiting in a forest, glowing neon style",
    "a ball rolling to the left in a city, vintage film",
    "a white cloud rolling over the mountains",
)


def main(page: Path) -> None:
    """Generate the clips and write the picture."""
    tier = load_tiers()["tiny"]
    pipe = load_pipeline(tier=tier)
    asked = [GenerationRequest.for_tier(tier, prompt, seed=0) for prompt in PROMPTS]
    clips = [generate(pipe, one).clip for one in Progress(asked, "sampling", "clip")]
    write_files({page: animated_png(clip_sheet(clips, PROMPTS, 192, columns=4))})


if __name__ == "__main__":
    main(notebooks_dir().parent / "docs" / "images" / "prompts.png")
