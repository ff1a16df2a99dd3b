import numpy as np
import pytest

from tests.pipeline.samples import FPS, picture, save
from vidgen_lab.pipeline.deliver import cut
from vidgen_lab.pipeline.deliver.cut import MediaSettings, OutputError, cut_clip
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.ffmpeg import FfmpegError, local, run_ffmpeg
from vidgen_lab.video.reader import VideoReader, read_clip

FRAMES = 40


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Forty frames that are told apart by the height of a white column."""
    frames = np.repeat(picture(1)[None], FRAMES, axis=0)
    for t in range(FRAMES):
        frames[t, : t + 4, 30:60] = 255
        frames[t, t + 4 :, 30:60] = 0
    return save(Clip(frames, FPS), tmp_path_factory.mktemp("media") / "it's 100% 日本.mp4", crf=4)


def numbers(path) -> list[int]:
    """Which of the forty each frame is."""
    frames = read_clip(path).frames
    scale = 64 / frames.shape[1]
    columns = frames[:, :, int(40 / scale) : int(50 / scale)].mean((2, 3)) > 128
    return [round(int(c.sum()) * scale) - 4 for c in columns]


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv", ".avi"])
def test_cuts_hold_exactly_the_frames_asked_for(source, tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    codec = ("-c:v", "mpeg4", "-q:v", 2) if suffix == ".avi" else ("-crf", 6, "-g", 12, "-bf", 2)
    run_ffmpeg("-i", local(source), *codec, local(path))
    cut_clip(path, tmp_path / "out.mp4", (13, 21))
    assert numbers(tmp_path / "out.mp4") == list(range(13, 21))


def test_cuts_are_exact_where_ffmpeg_guesses_the_times(source, tmp_path):
    path = tmp_path / "plain.avi"  # mpeg4 as ffmpeg writes it by itself, with sound beside it
    tone = ("-f", "lavfi", "-t", 5, "-i", "sine=440", "-c:a", "pcm_s16le")
    run_ffmpeg("-i", local(source), *tone, "-q:v", 2, local(path))
    for first, end in ((0, FRAMES), (13, 21)):
        cut_clip(path, tmp_path / "out.mp4", (first, end))
        assert numbers(tmp_path / "out.mp4") == list(range(first, end))


def test_cuts_are_exact_behind_a_seek_and_an_edit_list(source, tmp_path, monkeypatch):
    monkeypatch.setattr(cut, "_SEEK_MARGIN", 0.5)
    cut_clip(source, tmp_path / "seek.mp4", (25, 33))
    assert numbers(tmp_path / "seek.mp4") == list(range(25, 33))
    run_ffmpeg("-ss", 1.3, "-i", local(source), "-c", "copy", local(tmp_path / "edit.mp4"))
    shown = numbers(tmp_path / "edit.mp4")
    cut_clip(tmp_path / "edit.mp4", tmp_path / "again.mp4", (5, 9))
    assert numbers(tmp_path / "again.mp4") == shown[5:9]


def test_what_is_no_span_is_refused(source, tmp_path):
    for span in ((8, 4), (3, 3), (-1, 4), (99, 100)):
        with pytest.raises(ValueError, match="no frames"):
            cut_clip(source, tmp_path / "none.mp4", span)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode, size", [("fit", (64, 42)), ("pad", (64, 64)), ("crop", (64, 64))])
def test_sizes_are_even_exact_and_in_proportion(source, tmp_path, mode, size):
    out = tmp_path / "out.mp4"
    facts = cut_clip(source, out, (0, FRAMES), MediaSettings((64, 64), mode))
    assert (facts.width, facts.height) == size
    first = read_clip(out).frames[0]
    if mode == "pad":
        assert first[:8].max() < 30 and first[-8:].max() < 30


def test_odd_sizes_and_wide_pixels_become_even_and_square(source, tmp_path):
    odd, wide = tmp_path / "odd.mkv", tmp_path / "wide.mp4"
    run_ffmpeg("-i", local(source), "-vf", "crop=95:63", "-c:v", "ffv1", local(odd))
    facts = cut_clip(odd, tmp_path / "even.mp4", (0, 5))
    assert facts.width % 2 == facts.height % 2 == 0
    run_ffmpeg("-i", local(source), "-vf", "setsar=2", local(wide))
    facts = cut_clip(wide, tmp_path / "square.mp4", (0, 5))
    assert (facts.width, facts.height, facts.sample_aspect) == (192, 64, 1)


@pytest.mark.parametrize("codec", ["wmav2", "pcm_alaw", "pcm_s16le"])
def test_sound_of_any_codec_is_kept_as_aac(source, tmp_path, codec):
    loud = tmp_path / "loud.mkv"
    tone = ("-f", "lavfi", "-t", 5, "-i", "sine=440")
    run_ffmpeg("-i", local(source), *tone, "-c:v", "copy", "-c:a", codec, local(loud))
    facts = cut_clip(loud, tmp_path / "out.mp4", (FPS, 3 * FPS), MediaSettings(audio=True))
    assert facts.audio_codec == "aac" and facts.num_frames == 2 * FPS


def test_exit_code_zero_is_not_trusted(source, tmp_path):
    empty = tmp_path / "empty.mp4"
    run_ffmpeg("-ss", 99, "-i", local(source), local(empty))  # ends with 0
    with pytest.raises(OutputError, match="empty output"):
        cut.verify(empty, 8)
    with pytest.raises(OutputError, match="40 frames were written instead of 41"):
        cut.verify(source, FRAMES + 1)


def test_a_failure_leaves_the_old_file_and_no_temporary_one(source, tmp_path, monkeypatch):
    out = tmp_path / "out.mp4"
    out.write_bytes(b"old")
    monkeypatch.setattr(cut, "verify", lambda *a: (_ for _ in ()).throw(OutputError("no")))
    with pytest.raises(OutputError):
        cut_clip(source, out, (0, 5))
    assert out.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_nothing_takes_the_place_of_the_video_it_is_made_of(source, tmp_path):
    film, other = tmp_path / "film.mp4", tmp_path / "link.mp4"
    film.write_bytes(source.read_bytes())
    other.symlink_to(film)
    for out in (film, other):
        with pytest.raises(ValueError, match="would be lost"):
            cut_clip(film, out, (8, 16))
    assert film.read_bytes() == source.read_bytes()


def test_a_run_that_writes_nothing_is_an_error_that_names_the_clip(source, tmp_path, monkeypatch):
    monkeypatch.setattr(cut, "run_ffmpeg", lambda *a, **k: b"")
    with pytest.raises(FfmpegError, match=r"/out\.mp4"):
        cut_clip(source, tmp_path / "out.mp4", (0, 5))
    assert not list(tmp_path.iterdir())


def test_ffmpeg_cannot_outlive_its_limit(tmp_path):
    endless = ("-re", "-f", "lavfi", "-i", "testsrc2=s=64x64", "-f", "null", "-")
    with pytest.raises(FfmpegError, match="longer than"):
        run_ffmpeg(*endless, limit=1)


def test_a_new_rate_keeps_the_duration(source, tmp_path):
    facts = cut_clip(source, tmp_path / "out.mp4", (0, 32), MediaSettings(fps=4))
    assert facts.fps == pytest.approx(4) and abs(facts.num_frames - 16) <= 1


def test_key_frames_come_often(source, tmp_path):
    import av

    cut_clip(source, tmp_path / "out.mp4", (0, 40), MediaSettings(gop=8))
    with av.open(str(tmp_path / "out.mp4")) as container:
        keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
    assert sum(keys) >= 5


def test_wrong_settings_are_named():
    for wrong in ({"size": (63, 64)}, {"mode": "squash"}, {"crf": 99}, {"fps": 0}):
        with pytest.raises(ValueError):
            MediaSettings(**wrong)


def test_the_message_of_ffmpeg_begins_with_the_cause(tmp_path):
    odd = ("-f", "lavfi", "-i", "testsrc=d=0.2:s=64x65", "-pix_fmt", "yuv420p")
    with pytest.raises(FfmpegError, match=r"not divisible by 2 \(64x65\)"):
        run_ffmpeg(*odd, "-c:v", "libx264", local(tmp_path / "out.mp4"))


def test_a_crash_of_ffmpeg_says_what_may_help(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    with pytest.raises(FfmpegError, match="it crashed; a newer one may not: pip install"):
        run_ffmpeg("-version")


def test_messages_of_ffmpeg_are_the_same_every_time(source, tmp_path):
    messages = set()
    for _ in range(2):
        with pytest.raises(FfmpegError) as caught:
            run_ffmpeg("-i", local(source), "-c:v", "no_such_codec", local(tmp_path / "out.mp4"))
        messages.add(str(caught.value))
    assert len(messages) == 1


@pytest.mark.parametrize("name", ["film.ts", "film.avi", "film.gif", "film.mkv"])
def test_clips_of_one_video_are_cut_in_one_go_and_frame_by_frame(
    source, tmp_path, name, monkeypatch
):
    film = tmp_path / name
    codec = {".gif": (), ".avi": ("-c:v", "mpeg4", "-q:v", 2, "-bf", 2)}
    run_ffmpeg(
        "-i", local(source), *codec.get(film.suffix, ("-c:v", "libx264", "-bf", 2)), local(film)
    )
    runs = []
    run = cut.run_ffmpeg
    monkeypatch.setattr(cut, "run_ffmpeg", lambda *a, **k: runs.append(a) or run(*a, **k))
    spans = [(0, 9), (9, 20), (15, 31), (33, 40)]
    cuts = [cut.Cut(tmp_path / f"{first}.mp4", first, end) for first, end in spans]
    facts = cut.cut_clips(film, cuts, MediaSettings(crf=1))
    assert [f.num_frames for f in facts] == [end - first for first, end in spans] and len(runs) == 1
    truth = VideoReader(film).read().frames.astype(int)
    for one in cuts:
        found = VideoReader(one.out).read().frames
        assert np.abs(found - truth[one.first : one.end]).mean((1, 2, 3)).max() < 8
        others = np.abs(found[0] - truth).mean((1, 2, 3))
        assert others.argmin() == one.first


def test_what_is_wrong_with_one_clip_spoils_no_other(source, tmp_path):
    cuts = [cut.Cut(tmp_path / "a.mp4", 0, 5), cut.Cut(tmp_path / "b.mp4", 5, FRAMES + 9)]
    good, bad = cut.cut_clips(source, cuts)
    assert good.num_frames == 5 and isinstance(bad, ValueError)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_crop_keeps_that_part_of_the_picture(source, tmp_path):
    facts = cut_clip(
        source, tmp_path / "out.mp4", (0, 5), MediaSettings(crf=1), crop=(16, 8, 48, 40)
    )
    assert (facts.width, facts.height) == (48, 40)
    whole, part = VideoReader(source).read(2, 1), VideoReader(tmp_path / "out.mp4").read(2, 1)
    assert np.abs(whole.frames[0, 8:48, 16:64].astype(int) - part.frames[0]).mean() < 8


@pytest.mark.parametrize("curve, transfer", [("PQ", "smpte2084"), ("HLG", "arib-std-b67")])
def test_hdr_is_brought_to_bt709(source, tmp_path, curve, transfer):
    import av

    hdr = tmp_path / "hdr.mkv"
    tags = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:log-level=error"
    run_ffmpeg(
        *("-f", "lavfi", "-i", "gradients=s=96x64:d=1:r=8:c0=black:c1=white:x0=0:y0=0:x1=95:y1=0"),
        *(
            "-c:v",
            "libx265",
            "-crf",
            8,
            "-pix_fmt",
            "yuv420p10le",
            "-x265-params",
            tags,
            local(hdr),
        ),
    )
    cut_clip(hdr, tmp_path / "out.mp4", (0, 8), MediaSettings(crf=4))
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (int(context.color_trc), int(context.color_primaries)) == (1, 1)
        assert context.pix_fmt == "yuv420p"
    signal = VideoReader(hdr).read(0, 1).frames[0].mean((0, 2)) / 255
    found = VideoReader(tmp_path / "out.mp4").read(0, 1).frames[0] / 255
    grey = found.mean((0, 2))
    assert (np.diff(grey) > -0.01).all() and np.ptp(found, axis=-1).max() < 0.05
    white = {"PQ": 0.58, "HLG": 0.75}[curve]  # where BT.2408 puts a sheet of paper
    paper = float(np.interp(white, signal, grey))
    assert 0.8 < paper < min(0.95, grey[-1] - 0.05)  # bright, with room above
