from types import SimpleNamespace

import numpy as np
from PIL import Image

from tests.video.conftest import numbered_clip
from tools import prompts
from vidgen_lab.toyworld import parse_prompt


def test_the_picture_holds_every_clip_below_its_prompt_and_loops(tmp_path, monkeypatch):
    asked = []
    clip = numbered_clip(3)
    monkeypatch.setattr(prompts, "load_pipeline", lambda tier: None)
    monkeypatch.setattr(
        prompts, "generate", lambda pipe, r: asked.append(r) or SimpleNamespace(clip=clip)
    )
    out = tmp_path / "prompts.png"
    prompts.main(out)
    assert [r.prompt for r in asked] == list(prompts.PROMPTS) and {r.seed for r in asked} == {0}
    with Image.open(out) as image:
        assert image.width == 4 * 192 + 3 * 4 and image.height > 3 * 128
        assert (image.n_frames, image.info["loop"]) == (3, 0)
        assert (np.asarray(image.convert("RGB")) == 255).any()


def test_a_dozen_different_prompts_that_the_model_knows():
    assert len(set(prompts.PROMPTS)) == 12
    assert all(parse_prompt(p)["subject"] for p in prompts.PROMPTS)
