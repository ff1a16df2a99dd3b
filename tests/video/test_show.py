import base64
import io
import re

import av
import numpy as np
import pytest

from tests.video.conftest import numbered_clip, show_all
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.show import contact_sheet, film_strip, show_video, show_videos
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


def test_a_toy_clip_is_enlarged_crisply_and_stays_small():
    shown = show_video(numbered_clip(17))
    frames = decode(*embedded_bytes(shown.data))
    assert len(frames) == 17 and frames[0].format.name == "yuv420p"
    assert 'width="480" height="320"' in shown.data and "pixelated" in shown.data
    assert all(word in shown.data for word in ("loop", "muted", "controls", "aria-label="))
    assert len(shown.data) < 40_000  # a notebook holds many of them
    assert shown._repr_html_() == shown.data


def test_doubling_keeps_the_colour_of_single_pixels():
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    frames[:, :, ::2], frames[:, :, 1::2] = (255, 0, 0), (0, 0, 255)  # one-pixel stripes
    (data,) = embedded_bytes(show_video(Clip(frames, 8), width=64).data)
    picture = decode(data)[0].to_ndarray(format="rgb24")[::2, ::2]
    assert np.abs(picture.astype(int) - frames[0]).mean() < 12  # 4:2:0 at 1:1 is off by 60


def test_large_clips_are_reduced_and_the_limit_is_kept():
    shown = show_video(noise(6, 480, 720), width=240, max_mb=0.1)
    (data,) = embedded_bytes(shown.data)
    assert len(shown.data) < 0.1 * 2**20 + 2000
    assert (decode(data)[0].width, decode(data)[0].height) == (240, 160)
    with pytest.raises(ValueError, match="max_mb"):
        show_video(noise(6, 480, 720), max_mb=0.01)


def test_a_ready_file_is_embedded_unchanged_and_others_converted(tmp_path, videos):
    path = write_clip(numbered_clip(5), tmp_path / "clip.mp4")
    shown = show_video(path)
    assert embedded_bytes(shown.data) == [path.read_bytes()]
    assert "clip.mp4, 5 frames" in repr(shown) and str(tmp_path) not in shown.data
    (data,) = embedded_bytes(show_video(videos["mpeg_ps"]).data)
    assert len(decode(data)) == len(show_all(videos["mpeg_ps"], 96, 64))


def test_text_is_escaped_and_the_prompt_is_the_description():
    clip = Clip(numbered_clip(2).frames, 8, {"prompt": 'a "red" <ball>'})
    shown = show_video(clip)
    assert "a &quot;red&quot; &lt;ball&gt; (2 frames, 96x64, 8 fps)" in shown.data
    assert "<ball>" not in shown.data and 'a "red" <ball>' in repr(shown)


def test_several_clips_stand_side_by_side():
    shown = show_videos([numbered_clip(3), numbered_clip(4)], ["25 steps", "<50>"])
    assert [len(decode(data)) for data in embedded_bytes(shown.data)] == [3, 4]
    assert "<figcaption>25 steps" in shown.data and "&lt;50&gt;" in shown.data
    with pytest.raises(ValueError, match="1 titles for 2 clips"):
        show_videos([numbered_clip(2)] * 2, ["one"])
    with pytest.raises(ValueError, match="no videos"):
        show_videos([])


def test_contact_sheet_runs_from_the_first_to_the_last_frame():
    clip = numbered_clip(17)
    sheet = contact_sheet(clip, num=8, columns=4, scale=1)
    assert sheet.shape == (2 * 64 + 4, 4 * 96 + 3 * 4, 3) and sheet.dtype == np.uint8
    assert np.array_equal(sheet[:64, :96], clip.frames[0])
    assert np.array_equal(sheet[-64:, -96:], clip.frames[-1])
    assert contact_sheet(clip, num=2).shape == (128, 2 * 192 + 4, 3)  # doubled on its own
    few = contact_sheet(numbered_clip(3), num=8, columns=4, scale=1)
    assert few.shape == (64, 3 * 96 + 2 * 4, 3)
    filled = contact_sheet(clip, num=5, columns=4, scale=1)
    assert (filled[-64:, -96:] == 255).all()  # the empty places are white


def test_film_strip_has_a_titled_row_per_clip():
    clips = [numbered_clip(17), numbered_clip(9)]
    strip = film_strip(clips, ["first é", "second " * 50], num=3, scale=1)
    assert strip.shape == (2 * (64 + 22) + 3 * 4, 3 * 96 + 2 * 4, 3)
    assert (strip[:22] < 128).any() and np.array_equal(strip[26:90, :96], clips[0].frames[0])
    assert np.array_equal(strip[-64:, -96:], clips[1].frames[-1])
    assert film_strip(clips, num=3, scale=1).shape[0] == 2 * 64 + 4
    with pytest.raises(ValueError, match="no clips"):
        film_strip([])
