import json

import numpy as np
import pytest
from PIL import Image

from tests.finetuning.clips import CAPTIONS, write_clips
from tests.workbook.test_built import built
from vidgen_lab.finetuning.dataset import (
    DataConfig,
    read_training_clips,
    table_of,
)
from vidgen_lab.toyworld.dataset import write_dataset
from vidgen_lab.training.data.dataset import covered
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import VideoReader, read_clip
from vidgen_lab.video.writer import write_clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips") / "five", num_frames=17)


def config(folder, **more):
    return DataConfig(folder, **(dict(num_frames=9, height=32, width=32) | more))


def test_cogvideos_folder(clips):
    found, unfit = read_training_clips(config(clips))
    assert not unfit
    assert [clip.caption for clip in found] == list(CAPTIONS)
    assert found[0].span.frames == tuple(range(0, 17, 2))
    assert found[0].image.frames == (0,)


def test_chapter_twos_list_and_the_toy_worlds(tmp_path):
    write_dataset(tmp_path, 2, num_frames=9, width=48, height=32)
    found, _ = read_training_clips(config(tmp_path, width=48))
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert [clip.caption for clip in found] == [row["text"] for row in rows]


def test_captions_by_trigger_or_description(clips):
    def first(**more):
        return read_training_clips(config(clips, **more))[0][0].caption

    assert first(captions="trigger", trigger="in ink style ") == "in ink style"
    assert first(captions="both", trigger="in ink style") == f"in ink style, {CAPTIONS[0]}"
    with pytest.raises(ValueError, match="needs a trigger word"):
        config(clips, captions="both")


def test_a_training_without_any_caption_is_refused(clips):
    with pytest.raises(ValueError, match="caption_dropout must lie in"):
        config(clips, caption_dropout=1.0)


def test_every_bad_entry_is_named_at_once(tmp_path):
    folder = write_clips(tmp_path / "bad")
    (folder / "videos" / "1.mp4").unlink()
    (folder / "videos" / "3.mp4").write_bytes(b"no video")
    lines = (folder / "prompts.txt").read_text().splitlines()
    (folder / "prompts.txt").write_text("\n".join([*lines[:2], "", *lines[3:]]) + "\n")
    with pytest.raises(FileNotFoundError) as error:  # what is wrong with the first of them
        read_training_clips(config(folder))
    said = str(error.value)
    assert "3 of 5 videos in" in said
    assert "entry 2, videos/1.mp4: there is no such file" in said
    assert "entry 3, videos/2.mp4: its caption is empty" in said
    assert "entry 4, videos/3.mp4:" in said


def test_lists_of_unequal_length(tmp_path):
    folder = write_clips(tmp_path / "bad")
    with (folder / "videos.txt").open("a") as file:
        file.write("videos/0.mp4\n" * 3)
    with pytest.raises(ValueError, match="lines and videos.txt has 8"):
        read_training_clips(config(folder))


def test_clips_that_do_not_fit_are_left_out_with_the_reason(clips):
    with pytest.raises(ValueError, match="not one of 5 clips fits"):
        read_training_clips(config(clips, num_frames=25))
    with pytest.raises(ValueError, match="too_small"):
        read_training_clips(config(clips, height=64, width=64))
    found, _ = read_training_clips(config(clips, height=64, width=64, max_upscale=2.0))
    said = table_of(found, (), most=2)
    assert "9x64x64, frames 0 to 16, 2.00 times its speed" in said and "and 3 more" in said


def test_first_frames_from_images_txt(tmp_path):
    folder = write_clips(tmp_path / "with images", count=2)
    (folder / "images").mkdir()
    for n in range(2):
        Image.new("RGB", (32, 32), (n * 200, 0, 0)).save(folder / "images" / f"{n}.png")
    (folder / "images.txt").write_text("images/0.png\nimages/1.png\n")
    found, _ = read_training_clips(config(folder))
    picture = found[1].image
    pixels = covered(VideoReader(picture.path), picture.frames, 32, 32)  # uint8 [3, 1, 32, 32]
    assert pixels.shape == (3, 1, 32, 32) and abs(int(pixels[0].float().mean()) - 200) < 3
    (folder / "images.txt").write_text("images/0.png\n")
    with pytest.raises(ValueError, match="has 1 lines for 2 clips"):
        read_training_clips(config(folder))
    (folder / "images.txt").write_text("images/0.png\nimages/9.png\n")
    with pytest.raises(ValueError, match="line 2, .*9.png"):
        read_training_clips(config(folder))


def test_a_video_listed_twice_keeps_both_of_its_pictures(tmp_path):
    folder = write_clips(tmp_path / "twice", count=2)
    (folder / "videos.txt").write_text("videos/0.mp4\nvideos/0.mp4\n")
    for n in range(2):
        Image.new("RGB", (32, 32)).save(folder / f"{n}.png")
    (folder / "images.txt").write_text("0.png\n1.png\n")
    found, _ = read_training_clips(config(folder))
    assert [clip.caption for clip in found] == list(CAPTIONS[:2])
    assert [clip.image.path.name for clip in found] == ["0.png", "1.png"]


def test_clips_and_prompts_are_written_line_by_line(tmp_path):
    clips = [Clip(np.full((9, 32, 32, 3), n, np.uint8), 8.0) for n in (10, 200)]
    write_pairs = built(5, "c028", write_clip=write_clip).write_pairs
    write_pairs(tmp_path / "new", clips, ["one", "two"])
    found, _ = read_training_clips(config(tmp_path / "new"))
    assert [clip.caption for clip in found] == ["one", "two"]
    bright = [int(read_clip(clip.span.path).frames.mean()) for clip in found]
    assert bright[0] < 40 < 160 < bright[1]
    with pytest.raises(ValueError, match="shorter"):
        write_pairs(tmp_path / "short", clips[:1], ["one", "two"])
    assert not (tmp_path / "short" / "prompts.txt").exists()  # no list that lies
