"""Folders of toy clips with captions and ground truth, in the layouts that trainers read."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vidgen_lab.files import replacing, write_files
from vidgen_lab.toyworld.language import REGISTERS, caption
from vidgen_lab.toyworld.renderer import render
from vidgen_lab.toyworld.world import (
    BACKGROUNDS,
    COLOURS,
    LEGAL_MOTIONS,
    SUBJECTS,
    Scene,
    legal_backgrounds,
    sample_scene,
)
from vidgen_lab.video.sheets import film_strip, write_png
from vidgen_lab.video.writer import write_clip


def write_dataset(
    folder: str | Path,
    count: int,
    seed: int = 0,
    width: int = 96,
    height: int = 64,
    num_frames: int = 17,
    held_out: bool = False,
) -> Path:
    """Render `count` captioned clips into `folder`, readable by three kinds of trainers at once.

    - metadata.jsonl: Hugging Face VideoFolder (file_name, text, and every attribute);
    - prompts.txt and videos.txt: CogVideo's two-file layout, one line a clip in the same order;
    - truth/NAME.npz: centers [T, 2], boxes [T, 4] and masks [T, H, W] of the subject.

    The lists are written last and together, so that an interrupted run leaves no list that lies.

    Width and height are pixels, the rate is `render`'s. `held_out` takes only compositions that no
    training set contains; without it none of them is taken.

    Raises:
        FileExistsError: the folder holds anything.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: clips of two runs would mix; take another")
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        scene = sample_scene(rng, held_out)
        rendered = render(scene, width, height, num_frames)
        name = f"{number:05d}_{scene.colour}_{scene.subject}_{scene.motion}"
        write_clip(rendered.clip, folder / "videos" / f"{name}.mp4")
        truth = {part: getattr(rendered, part) for part in ("centers", "boxes", "masks")}
        with replacing(folder / "truth" / f"{name}.npz") as file:
            np.savez_compressed(file, **truth)
        text = caption(scene, REGISTERS[number % len(REGISTERS)], rng)
        rows.append({"file_name": f"videos/{name}.mp4", "text": text} | asdict(scene))
    lists = {
        "prompts.txt": [row["text"] for row in rows],
        "videos.txt": [row["file_name"] for row in rows],
        "metadata.jsonl": [json.dumps(row) for row in rows],
    }
    write_files({folder / name: "\n".join([*lines, ""]) for name, lines in lists.items()})
    return folder


def write_world_sheet(path: Path) -> Path:
    """Every subject at three moments, captioned, as PNG; the other attributes take turns."""
    clips, texts = [], []
    for i, subject in enumerate(SUBJECTS):
        motions, places = LEGAL_MOTIONS[subject], legal_backgrounds(subject)
        preferred = BACKGROUNDS[i % len(BACKGROUNDS)]
        scene = Scene(
            subject=subject,
            colour=COLOURS[(i * 3) % len(COLOURS)],
            motion=motions[i % len(motions)],
            background=preferred if preferred in places else places[-1],
            style={3: "vintage", 4: "neon"}.get(i % 5, "cartoon"),
            seed=i,
        )
        texts.append(caption(scene, "minimal", np.random.default_rng(i)))
        clips.append(render(scene, 144, 96).clip)
    return write_png(film_strip(clips, texts, 3, scale=1, columns=2), path)
