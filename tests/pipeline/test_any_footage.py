"""Videos nobody prepared: whatever the bundled ffmpeg can write, and what cameras and phones do."""

from pathlib import Path

import pytest

from tests.pipeline.samples import film, moving, save
from vidgen_lab.pipeline import tasks, workers
from vidgen_lab.pipeline.manifest import check_funnel
from vidgen_lab.pipeline.prepare import prepare
from vidgen_lab.pipeline.runner import Execution
from vidgen_lab.pipeline.select.scoring import score_video
from vidgen_lab.video.ffmpeg import FfmpegError, encoders, local, run_ffmpeg

FRAMES = 24
COMMON = [
    (".mp4", "libx264"), (".mov", "libx264"), (".mkv", "libx264"), (".flv", "libx264"),
    (".ts", "libx264"), (".m2ts", "libx264"), (".3gp", "libx264"), (".avi", "libx264"),
    (".mp4", "libx265"), (".mov", "libx265"), (".mp4", "libsvtav1"), (".webm", "libvpx"),
    (".webm", "libvpx-vp9"), (".webm", "libsvtav1"), (".avi", "mpeg4"), (".avi", "mjpeg"),
    (".avi", "msmpeg4"), (".mov", "prores"), (".mov", "mjpeg"), (".mpg", "mpeg1video"),
    (".mpg", "mpeg2video"), (".ts", "mpeg2video"), (".wmv", "wmv2"), (".flv", "flv"),
    (".ogv", "libtheora"), (".mkv", "ffv1"), (".mkv", "huffyuv"), (".gif", "gif"),
    (".mov", "qtrle"), (".mkv", "libxvid"),
]  # fmt: skip
# Encoders that want another number of colours or a size of their own.
PIXELS = {"qtrle": "rgb24", "gif": "rgb8", "huffyuv": "yuv422p", "prores": "yuv422p10le",
          "mjpeg": "yuvj420p"}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A clip at 25 frames a second, a rate that every old format knows."""
    return save(moving(3, FRAMES, fps=25), tmp_path_factory.mktemp("source") / "clip.mp4", crf=4)


def encoded(source: Path, path: Path, codec: str) -> Path:
    """The clip in this format; skips where this ffmpeg cannot write it."""
    if codec not in encoders():
        pytest.skip(f"this ffmpeg has no {codec}")
    pixels = PIXELS.get(codec, "yuv420p")
    quality = () if codec in PIXELS else ("-b:v", "900k")
    run_ffmpeg(
        "-i", local(source), "-c:v", codec, *quality, "-pix_fmt", pixels, "-strict", "-2",
        "-threads", 1, local(path),
    )  # fmt: skip
    return path


@pytest.mark.parametrize(("suffix", "codec"), COMMON, ids=lambda x: x)
def test_common_formats_are_read_to_the_last_frame(source, tmp_path, suffix, codec):
    path = encoded(source, tmp_path / f"x{suffix}", codec)
    scored = score_video(path)
    facts = scored["facts"]
    assert (facts["width"], facts["height"]) == (96, 64)
    assert abs(facts["num_frames"] - FRAMES) <= (2 if suffix in (".mpg", ".wmv", ".flv") else 0)
    assert sum(c["frames"][1] - c["frames"][0] for c in scored["clips"]) == facts["num_frames"]
    assert facts["fps"] == pytest.approx(25, rel=0.02) and facts["missing"] == 0


@pytest.mark.slow
def test_every_encoder_of_this_ffmpeg_ends_as_scored_or_as_a_clean_error(source, tmp_path):
    written = []
    for codec in sorted(encoders()):
        path = tmp_path / f"{codec}.mkv"
        try:
            run_ffmpeg(
                "-i", local(source), "-c:v", codec, "-strict", "-2", "-threads", 1, "-an",
                local(path), limit=60,
            )  # fmt: skip
        except FfmpegError:  # an encoder for hardware, sound, or another size
            continue
        written.append(path)
    todo = [{"path": str(p), "scenes": {}, "score": {}} for p in written]
    done = dict(workers.run_tasks(tasks.score, todo, workers=1, limit=60))
    scored = [written[n].stem for n, result in done.items() if "value" in result]
    assert len(done) == len(written)
    errors = [result.get("error", "") for result in done.values()]
    assert all("crash" not in error and "timeout" not in error for error in errors)
    assert len(scored) >= 25 and {"libx264", "libx265", "mpeg2video", "ffv1"} <= set(scored)


def test_a_folder_as_a_phone_leaves_it(tmp_path):
    """Variable rate, turned pictures, sound, a slow-motion clip, an edit, 10 bit, odd sizes."""
    folder = tmp_path / "DCIM"
    tone = ("-f", "lavfi", "-t", 3, "-i", "sine=440")

    def make(name: str, seed: int, *options: object, before: tuple = (), clip=None) -> None:
        plain = save(clip or moving(seed, 40), tmp_path / "plain.mp4", crf=4)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        run_ffmpeg(*before, "-i", local(plain), *options, local(folder / name))

    jitter = "setpts='(N+0.35*mod(N,3))/(8*TB)'"
    make("VID 001.mp4", 1, "-vf", jitter, "-fps_mode", "vfr")
    make("IMG_002.MOV", 2, *tone, "-c:v", "copy", "-c:a", "aac", before=("-display_rotation", 90))
    make("IMG_003.mov", 3, "-c", "copy", before=("-display_rotation", 270))
    make("slow/240.mp4", 4, "-vf", "setpts=N/(240*TB)", "-r", 240)
    make("edited.mp4", 5, "-c", "copy", before=("-ss", 1.3))
    make("hdr.mp4", 6, "-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1")
    make("odd.mkv", 7, "-vf", "scale=101:75", "-c:v", "ffv1", "-pix_fmt", "yuv444p")
    make("wide.mp4", 8, "-vf", "setsar=4/3")
    make("film.ts", 9, "-c:v", "libx264", "-bf", 2, clip=film((11, 12, 13), 16))
    table = prepare(folder, tmp_path / "out", execution=Execution("serial"))
    check_funnel(table)
    lost = [(r.source, r.reason) for r in table if r.status == "error"]
    assert lost == []
    read = {r.source: r.info["facts"] for r in table if r.stage == "read"}
    assert read["VID 001.mp4"]["variable_fps"] and read["IMG_002.MOV"]["audio_codec"] == "aac"
    assert (read["IMG_003.mov"]["width"], read["IMG_003.mov"]["height"]) == (64, 96)
    assert read["hdr.mp4"]["bit_depth"] == 10
    assert read["wide.mp4"]["sample_aspect"] == pytest.approx(4 / 3)
    ended = {r.source: r for r in table if r.stage in ("quality", "split")}
    assert ended["slow/240.mp4"].reason == "too_short"
    kept = {r.source for r in table if r.stage == "split"}
    assert {"VID 001.mp4", "IMG_002.MOV", "IMG_003.mov", "hdr.mp4", "film.ts"} <= kept
