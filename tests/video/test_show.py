import base64
import io
import re

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.video.conftest import numbered_clip, show_all
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.show import SMALL, animated_png, show_video, show_videos
from vidgen_lab.video.writer import write_clip


def embedded_bytes(markup: str) -> list[bytes]:
    found = re.findall(r'src="data:video/mp4;base64,([^"]+)"', markup)
    return [base64.b64decode(text) for text in found]


def decode(data: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return list(container.decode(video=0))


def noise(num_frames: int, height: int, width: int) -> Clip:
    rng = np.random.default_rng(0)
    return Clip(rng.integers(0, 256, (num_frames, height, width, 3), np.uint8), 8)


def frames_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)])


def long_clip(num_frames: int = SMALL[0] + 1) -> Clip:
    return numbered_clip(num_frames)


def test_a_toy_clip_is_an_animated_png_of_true_size_that_loops():
    clip = numbered_clip(17)
    shown = show_video(clip)
    data, metadata = shown._repr_mimebundle_()
    assert set(data) == {"image/png", "text/plain"}
    about = metadata["image/png"]
    assert (about["width"], about["height"]) == (480, 320) and "17 frames" in about["alt"]
    packed = base64.b64decode(data["image/png"])
    with Image.open(io.BytesIO(packed)) as image:
        assert (image.size, image.n_frames, image.info["loop"]) == ((96, 64), 17, 0)
        assert image.mode == "P" and image.info["duration"] == pytest.approx(1000 / clip.fps)
    assert np.abs(frames_of(packed).astype(int) - clip.frames).max() <= 8
    assert len(packed) < 60_000  # a notebook holds many of them


def test_a_still_that_stands_for_minutes_is_shown_as_video():
    clip = Clip(np.zeros((50, 16, 16, 3), np.uint8), 0.5)
    assert show_video(clip).image is None and "50 frames" in show_video(clip).text


def test_in_a_widget_it_is_the_same_picture_with_crisp_pixels():
    shown = show_video(numbered_clip(9), width=200)
    assert shown.data.startswith('<img width="192" height="128" alt=')
    assert "pixelated" in shown.data and base64.b64encode(shown.image).decode() in shown.data


def test_every_pixel_of_a_few_colours_keeps_its_own():
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    frames[:, :, ::2], frames[:, :, 1::2] = (255, 0, 0), (0, 0, 255)  # one-pixel stripes
    frames[1, 3, 3] = (0, 255, 0)
    assert np.array_equal(frames_of(animated_png(Clip(frames, 8))), frames)


def test_equal_frames_are_kept_as_time():
    frames = np.repeat(numbered_clip(2).frames, [1, 5], axis=0)
    with Image.open(io.BytesIO(animated_png(Clip(frames, 8)))) as image:
        assert image.n_frames == 2
        image.seek(1)
        assert image.info["duration"] == 5 * 125


def test_a_longer_clip_is_video_enlarged_crisply():
    shown = show_video(long_clip())
    frames = decode(*embedded_bytes(shown.data))
    assert len(frames) == SMALL[0] + 1 and frames[0].format.name == "yuv420p"
    assert 'width="480" height="320"' in shown.data and "pixelated" in shown.data
    assert all(word in shown.data for word in ("loop", "muted", "controls", "aria-label="))
    assert shown._repr_mimebundle_()[0] == {"text/html": shown.data, "text/plain": repr(shown)}


def test_doubling_keeps_the_colour_of_single_pixels():
    frames = np.zeros((SMALL[0] + 1, 16, 16, 3), np.uint8)
    frames[:, :, ::2], frames[:, :, 1::2] = (255, 0, 0), (0, 0, 255)  # one-pixel stripes
    (data,) = embedded_bytes(show_video(Clip(frames, 8), width=64).data)
    picture = decode(data)[0].to_ndarray(format="rgb24")[::2, ::2]
    assert np.abs(picture.astype(int) - frames[0]).mean() < 12  # 4:2:0 at 1:1 is off by 60


def test_noise_that_would_be_too_large_as_pictures_is_video():
    assert embedded_bytes(show_video(noise(50, 160, 240)).data)


def test_large_clips_are_reduced_and_the_limit_is_kept():
    shown = show_video(noise(6, 480, 720), width=240, max_mb=0.1)
    (data,) = embedded_bytes(shown.data)
    assert len(shown.data) < 0.1 * 2**20 + 2000
    assert (decode(data)[0].width, decode(data)[0].height) == (240, 160)
    with pytest.raises(ValueError, match="max_mb"):
        show_video(noise(6, 480, 720), max_mb=0.01)


def test_a_ready_file_is_embedded_unchanged_and_others_converted(tmp_path, videos, monkeypatch):
    path = write_clip(long_clip(), tmp_path / "clip.mp4")
    shown = show_video(path)
    assert embedded_bytes(shown.data) == [path.read_bytes()]
    assert "clip.mp4, 51 frames" in repr(shown) and str(tmp_path) not in shown.data
    short = show_video(write_clip(numbered_clip(5), tmp_path / "short.mp4"))
    assert len(frames_of(short.image)) == 5
    assert "short.mp4, 5 frames" in repr(short) and str(tmp_path) not in short.data
    monkeypatch.setattr("vidgen_lab.video.show.SMALL", (1, 1))
    (data,) = embedded_bytes(show_video(videos["mpeg_ps"]).data)
    assert len(decode(data)) == len(show_all(videos["mpeg_ps"], 96, 64))


def test_text_is_escaped_and_the_prompt_is_the_description():
    clip = Clip(numbered_clip(2).frames, 8, {"prompt": 'a "red" <ball>'})
    shown = show_video(clip)
    assert "a &quot;red&quot; &lt;ball&gt; (2 frames, 96x64, 8 fps)" in shown.data
    assert "<ball>" not in shown.data and 'a "red" <ball>' in repr(shown)


def test_several_small_clips_share_one_picture():
    clips = [Clip(numbered_clip(3).frames, 8), Clip(numbered_clip(8).frames, 16)]
    shown = show_videos(clips, ["25 steps", "a much longer title <that> takes two lines of text"])
    data, metadata = shown._repr_mimebundle_()
    frames = frames_of(shown.image)
    assert frames.shape == (8, 128 + 2 * 22, 2 * 192 + 4, 3)  # half a second at 16 a second
    assert metadata["image/png"]["width"] == frames.shape[2]
    assert metadata["image/png"]["alt"].startswith("25 steps; a much")
    assert "&lt;that&gt;" in shown.data and "<that>" not in shown.data
    assert np.abs(frames[7, 44::2, 196::2].astype(int) - clips[1].frames[7]).max() <= 8
    assert (frames[0, :22, :192] == 255).all() and (frames[0, 22:44, :192] < 99).any()  # title


def test_longer_clips_stand_side_by_side():
    shown = show_videos([long_clip(51), long_clip(52)], ["25 steps", "<50>"])
    assert [len(decode(data)) for data in embedded_bytes(shown.data)] == [51, 52]
    assert "<figcaption>25 steps" in shown.data and "&lt;50&gt;" in shown.data
    with pytest.raises(ValueError, match="1 titles for 2 clips"):
        show_videos([numbered_clip(2)] * 2, ["one"])
    with pytest.raises(ValueError, match="no videos"):
        show_videos([])
