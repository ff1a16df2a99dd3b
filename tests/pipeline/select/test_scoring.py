import re

import numpy as np
import pytest

from tests.pipeline.samples import blurred, film, moving, save
from vidgen_lab.pipeline.read.probing import probe_file
from vidgen_lab.pipeline.select import scoring
from vidgen_lab.pipeline.select.scoring import score_video
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.ffmpeg import local, run_ffmpeg
from vidgen_lab.video.reader import VideoError


def metrics(clip: Clip, folder, name: str = "x.mp4") -> dict:
    (scored,) = score_video(save(clip, folder / name))["clips"]
    return scored["metrics"]


def test_every_metric_reacts_to_its_defect(tmp_path):
    good = metrics(moving(), tmp_path)
    assert good["short_side"] == 64 and good["seconds"] == pytest.approx(2)
    assert good["num_frames"] == 16 and good["fps"] == pytest.approx(8)
    assert good["frozen"] < 0.1 and good["flow_speed"] > 0.3 and good["edge_steepness"] > 0.3
    assert good["bars"] == 0 and good["bright"] < 0.1 and good["dark"] < 0.2

    assert metrics(blurred(moving()), tmp_path)["edge_steepness"] < 0.22
    still = metrics(Clip(np.repeat(moving().frames[:1], 16, axis=0), 8), tmp_path)
    assert still["frozen"] == 1 and still["flow_speed"] < 0.05
    assert still["changing"] == 0 and good["changing"] > 0.02
    grain = np.random.default_rng(0).normal(0, 6, (16, 64, 96, 1))
    grainy = np.repeat(moving().frames[:1], 16, axis=0) + grain
    noisy = metrics(Clip(np.clip(grainy, 0, 255).astype(np.uint8), 8), tmp_path)
    assert noisy["frozen"] < 0.8 and noisy["changing"] < 0.01
    barred = moving().frames.copy()
    barred[:, :8] = barred[:, -8:] = 0
    assert metrics(Clip(barred, 8), tmp_path)["bars"] == pytest.approx(0.25, abs=0.05)
    white = np.clip(moving().frames.astype(int) * 3 + 90, 0, 255).astype(np.uint8)
    assert metrics(Clip(white, 8), tmp_path)["bright"] > 0.5
    assert metrics(Clip(moving().frames // 30, 8), tmp_path)["dark"] > 0.95


def test_motion_is_a_magnitude_per_second_whatever_the_direction_and_rate(tmp_path):
    there = metrics(moving(fps=8), tmp_path)["flow_speed"]
    back = metrics(Clip(moving(fps=8).frames[::-1].copy(), 8), tmp_path)["flow_speed"]
    faster = metrics(moving(fps=16), tmp_path)["flow_speed"]
    assert there == pytest.approx(back, rel=0.3) and there > 0
    assert faster == pytest.approx(2 * there, rel=0.35)


def test_scenes_are_scored_apart_and_each_frame_is_decoded_once(tmp_path, monkeypatch):
    clip = film((1, 2))
    clip.frames[10:] = clip.frames[10]  # the second shot stands still
    path = save(clip, tmp_path / "film.mp4")
    passes = []
    decode = scoring.VideoReader.pictures
    monkeypatch.setattr(
        scoring.VideoReader,
        "pictures",
        lambda *given: (passes.append(1), (yield from decode(*given)))[1],
    )
    result = score_video(path)
    assert [c["frames"] for c in result["clips"]] == [[0, 10], [10, 20]]
    assert [round(c["metrics"]["frozen"]) for c in result["clips"]] == [0, 1]
    assert len(passes) == 1


def test_large_frames_measure_like_small_ones(tmp_path):
    small = save(moving(), tmp_path / "small.mp4", crf=4)
    large = tmp_path / "large.mp4"
    run_ffmpeg("-i", local(small), "-vf", "scale=768:512:flags=neighbor", "-crf", 4, local(large))
    (a,), (b,) = score_video(small)["clips"], score_video(large)["clips"]
    assert b["metrics"]["short_side"] == 512
    assert b["metrics"]["flow_speed"] == pytest.approx(a["metrics"]["flow_speed"], rel=0.4)
    assert b["metrics"]["edge_steepness"] == pytest.approx(a["metrics"]["edge_steepness"], rel=0.4)


def test_a_cut_short_file_is_an_error_and_an_edit_list_is_not(tmp_path):
    whole = save(moving(num_frames=40), tmp_path / "whole.mp4", crf=4)
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(VideoError, match="truncated"):
        score_video(torn)
    cut = tmp_path / "cut.mp4"
    run_ffmpeg("-ss", 1.3, "-i", local(whole), "-c", "copy", local(cut))
    facts = probe_file(cut)
    assert facts.missing == 0
    if facts.header_frames != facts.num_frames:
        assert "header says" in facts.disagreements[0]


def test_damage_in_the_middle_is_an_error(tmp_path):
    path = save(moving(num_frames=40), tmp_path / "whole.mp4", crf=4)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) * 9 // 10] = b"\xff" * (len(data) * 9 // 10 - len(data) // 2)
    path.write_bytes(data)
    (clip,) = score_video(path)["clips"]
    assert re.match(
        r"damaged: \d+ of 40 frames, the first is frame \d+ \(\d\.\d\d s\)", clip["damage"]
    )


def test_probe_sees_sound_rotation_and_pixel_shape(tmp_path):
    source = save(moving(), tmp_path / "plain.mp4")
    loud = tmp_path / "loud.mkv"
    tone = ("-f", "lavfi", "-t", 2, "-i", "sine=440")
    run_ffmpeg("-i", local(source), *tone, "-c:v", "copy", "-c:a", "flac", local(loud))
    assert probe_file(loud).audio_codec == "flac"
    turned = tmp_path / "turned.mp4"
    run_ffmpeg("-display_rotation", 90, "-i", local(source), "-c", "copy", local(turned))
    facts = probe_file(turned)
    assert (facts.width, facts.height, facts.rotation) == (64, 96, 90)
    (clip,) = score_video(turned)["clips"]
    assert (clip["metrics"]["width"], clip["metrics"]["height"]) == (64, 96)
    wide = tmp_path / "wide.mp4"
    run_ffmpeg("-i", local(source), "-vf", "setsar=2", local(wide))
    assert probe_file(wide).sample_aspect == pytest.approx(2)
    ten = tmp_path / "ten.mkv"
    run_ffmpeg("-i", local(source), "-pix_fmt", "yuv420p10le", "-c:v", "libx265", local(ten))
    assert probe_file(ten).bit_depth == 10


def test_frozen_means_the_same_at_every_frame_rate(tmp_path):
    clip = moving(num_frames=16)
    shares = []
    for number, repeat in enumerate((1, 3, 12)):  # 8, 24 and 96 frames a second
        frames = np.repeat(clip.frames, repeat, axis=0)
        shares.append(metrics(Clip(frames, 8 * repeat), tmp_path, f"{number}.mp4")["frozen"])
    assert max(shares) - min(shares) < 0.35 and max(shares) < 0.5
    still = np.repeat(clip.frames[:1], 96, axis=0)
    assert metrics(Clip(still, 48), tmp_path, "still.mp4")["frozen"] == 1


def test_letterbox_is_found_to_be_cut_off(tmp_path):
    frames = np.repeat(np.repeat(moving().frames, 2, axis=1), 2, axis=2)  # 192x128
    frames[:, :16] = frames[:, -16:] = 0
    (clip,) = score_video(save(Clip(frames, 8), tmp_path / "x.mp4"))["clips"]
    x, y, width, height = clip["crop"]
    assert (x, width) == (0, 192) and 16 <= y <= 20 and 88 <= height <= 96
    assert clip["metrics"]["short_side"] == height
    (plain,) = score_video(save(moving(), tmp_path / "y.mp4"))["clips"]
    assert plain["crop"] is None


def test_bars_make_no_picture_sharp_or_dark(tmp_path):
    """The step from black to the picture is the sharpest edge there is, and no part of it."""
    found = {}
    for name, clip in (("sharp", moving()), ("soft", blurred(moving()))):
        frames = np.repeat(np.repeat(clip.frames, 2, axis=1), 2, axis=2)  # 192x128
        found[name] = metrics(Clip(frames[:, 24:-24], 8), tmp_path, f"{name}.mp4")
        frames[:, :24] = frames[:, -24:] = 0
        found[f"barred {name}"] = metrics(Clip(frames, 8), tmp_path, f"barred_{name}.mp4")
    for name in ("sharp", "soft"):
        plain, barred = found[name], found[f"barred {name}"]
        assert barred["edge_steepness"] == pytest.approx(plain["edge_steepness"], abs=0.03)
        assert barred["dark"] == pytest.approx(plain["dark"], abs=0.05)
    assert found["barred soft"]["edge_steepness"] < 0.22


def test_a_clip_has_no_picture_of_a_neighbouring_shot(tmp_path):
    shots = [moving(1, 4).frames, moving(2, 30).frames, moving(3, 5).frames, moving(4, 30).frames]
    path = save(Clip(np.concatenate(shots), 24), tmp_path / "film.mp4")
    found = [tuple(clip["frames"]) for clip in score_video(path)["clips"]]
    assert found == [(0, 4), (4, 34), (34, 39), (39, 69)]
