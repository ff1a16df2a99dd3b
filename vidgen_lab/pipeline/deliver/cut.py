"""Cut and resize with ffmpeg, and look at what came out (book listings 2.L09, 2.L14).

ffmpeg's exit code is not a verdict: it ends with 0 on a file without a picture. So everything is
written under a temporary name, read back, compared with what was asked for, and only then renamed.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from vidgen_lab.config import Checked
from vidgen_lab.files import replacing
from vidgen_lab.pipeline.read.probing import Facts, probe_file
from vidgen_lab.video.ffmpeg import FfmpegError, local, run_ffmpeg
from vidgen_lab.video.reader import VideoError, VideoReader, open_video

Crop = tuple[int, int, int, int]
PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
)  # fmt: skip
_LARGEST, _FASTEST = 8192, 240.0  # pixels of a side and frames a second that H.264 is made for
_CLOCKED = ("mov,", "matroska")  # containers in which every frame has a time stamp
_TOGETHER = 64  # clips that one run of ffmpeg writes, at most
_PIXELS = 16e6  # of a frame of each of them; an encoder holds about 60 bytes a pixel
# HDR for screens and models that know BT.709 only: light in shares of a sheet of paper (203 nits,
# BT.2408), the wide colours of BT.2020 brought into BT.709, and what is brighter than the screen's
# white bent into the rest.
_CURVES = {"PQ": "smpte2084", "HLG": "arib-std-b67"}
_TONES = (
    "zscale=min=bt2020nc:pin=bt2020:tin={}:t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,"
    "tonemap=mobius:desat=0,zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
)
_SEEK_MARGIN = 10.0  # seconds before a cut at which decoding begins: more than a group of pictures


class OutputError(RuntimeError):
    """The program ran, but what it wrote is not what was asked for; nothing was kept."""


@dataclass(frozen=True)
class MediaSettings(
    Checked, preset=PRESETS, mode=("fit", "pad", "crop"), crf=(0, 51), gop=(1, math.inf),
    fps=(0.1, _FASTEST),
):  # fmt: skip
    """How training clips are written.

    Attributes:
        size: (width, height) in pixels, even; None: the source's, made even.
        mode: "fit" inside it, "pad" to it with black, or "crop" to fill it.
        fps: frames per second; None keeps the times of the frames.
        crf: quality of x264, from 0 (the best) to 51.
        gop: frames from key frame to key frame; short, since training reads at random places.
        audio: keep it as AAC, otherwise drop it.
    """

    size: tuple[int, int] | None = None
    mode: str = "crop"
    fps: float | None = None
    crf: int = 18
    preset: str = "veryfast"
    gop: int = 16
    audio: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [side for side in self.size or () if side % 2 or not 16 <= side <= _LARGEST]
        if wrong or len(self.size or (0, 0)) != 2:
            raise ValueError(f"size: two even numbers in 16..{_LARGEST}, not {self.size}")


def resize_filter(facts: Facts, size: tuple[int, int] | None, mode: str = "fit") -> str:
    """ffmpeg filters from a video's picture to square pixels at `size`, even in any case.

    Averaging (area) when it shrinks, bicubic when it grows: without the low-pass, fine patterns
    would turn into coarse ones. Empty where the picture is right already.
    """
    true_width = facts.width * facts.sample_aspect
    if size is None:
        even = max(2, round(true_width / 2) * 2), max(2, facts.height // 2 * 2)
        same = even == (facts.width, facts.height) and facts.sample_aspect == 1
        return "" if same else f"scale={even[0]}:{even[1]}:flags=area,setsar=1"
    width, height = size
    reach = max if mode == "crop" else min  # rounding must not leave a gap, nor stick out
    ratio = reach(width / true_width, height / facts.height)
    sides = (true_width, width), (facts.height, height)
    inner = [reach(max(2, round(side * ratio / 2) * 2), wanted) for side, wanted in sides]
    flags = "area" if ratio < 1 else "bicubic"
    steps = [f"scale={inner[0]}:{inner[1]}:flags={flags}", "setsar=1"]
    if mode == "crop":
        steps.append(f"crop={width}:{height}")
    elif mode == "pad":
        steps.append(f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2")
    return ",".join(steps)


def cut_clip(
    path: str | Path,
    out: str | Path,
    frames: tuple[int, int],
    settings: MediaSettings = MediaSettings(),
    crop: Crop | None = None,
) -> Facts:
    """Write frames [first, end) of a video as MP4 and return the facts of the file.

    The cut goes by the time stamps of the reader's index, so it is exact wherever the seek lands.
    HDR is tone-mapped. `crop`: (x, y, width, height) in pixels as shown, to be kept; None: all.

    Raises:
        ValueError: the span is empty or impossible, or `out` is the video itself.
        VideoError: the video cannot be read.
        FfmpegError: ffmpeg failed.
        OutputError: what was written is not what was asked for.
    """
    (done,) = cut_clips(path, [Cut(Path(out), *frames, crop)], settings)
    if isinstance(done, Exception):
        raise done
    return done


@dataclass(frozen=True)
class Cut:
    """Frames [first, end) and the part of the picture that go into the file `out`."""

    out: Path
    first: int
    end: int
    crop: Crop | None = None


def cut_clips(
    path: str | Path,
    cuts: Sequence[Cut],
    settings: MediaSettings = MediaSettings(),
    limit: float = 600.0,
) -> list[Facts | Exception]:
    """The same for many clips of one video, which is decoded once for as many of them as memory
    allows: 64 small ones, one in 4K.

    What goes wrong with one clip stands in its place. A run of ffmpeg may take `limit` seconds.

    Raises:
        VideoError: the video cannot be read.
    """
    reader = _Timed(path)
    facts, done = probe_file(reader), []
    width, height = settings.size or (facts.width, facts.height)
    together = int(min(_TOGETHER, max(1, _PIXELS // (width * height))))
    waiting = [cuts[start : start + together] for start in range(0, len(cuts), together)]
    while waiting:
        some = waiting.pop(0)
        try:
            done += _cut_together(reader, facts, some, settings, limit)
        except (FfmpegError, ValueError) as error:
            if len(some) == 1:
                done.append(error)
            else:  # which of them was it?
                waiting[:0] = [[cut] for cut in some]
    return done


def _cut_together(
    reader: "_Timed", facts: Facts, cuts: Sequence[Cut], settings: MediaSettings, limit: float
) -> list[Facts | Exception]:
    with ExitStack() as stack:
        parts = [stack.enter_context(_part(cut.out, reader.path)) for cut in cuts]
        outputs: list[object] = []
        for cut, part in zip(cuts, parts, strict=True):
            outputs += reader.output(cut, facts, settings, part)
        before = reader.before(min(cut.first for cut in cuts))
        run_ffmpeg("-copyts", *before, "-i", local(reader.path), *outputs, limit=limit)
        done: list[Facts | Exception] = []
        for cut, part in zip(cuts, parts, strict=True):
            wanted, slack = cut.end - cut.first, 0
            if settings.fps:
                start, stop = reader.seconds(cut)
                wanted, slack = max(1, round((stop - start) * settings.fps)), 1
            try:
                size = settings.size if settings.mode != "fit" else None
                done.append(verify(part, wanted, slack, size))
            except OutputError as error:
                part.unlink(missing_ok=True)
                done.append(error)
        return done


@contextmanager
def _part(out: Path, source: Path) -> Iterator[Path]:
    """A temporary name; if something stands there at the end it takes the place of `out`."""
    if out.exists() and out.samefile(source):
        raise ValueError(f"{out} is the video itself and would be lost: give another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError), replacing(out) as part:
        try:
            yield part
        # No message should name a file that nobody will ever see; and only for the renaming is it
        # all right that there is none.
        except (FfmpegError, FileNotFoundError) as error:
            raise FfmpegError(str(error).replace(str(part), str(out))) from None


class _Timed(VideoReader):
    """The reader's index in the terms of ffmpeg."""

    def output(self, cut: Cut, facts: Facts, settings: MediaSettings, target: Path) -> list[object]:
        """ffmpeg's options for one of the files it writes."""
        if not 0 <= cut.first < cut.end <= self.info.num_frames:
            span = f"no frames {cut.first}..{cut.end} in {self.info.num_frames}"
            raise ValueError(f"{span}: {self.path}")
        # From 0; counted where there are no time stamps to rely on: equal ones would be dropped.
        timed = self.clocked or self.info.variable_fps
        clock = "setpts=PTS-STARTPTS" if timed else f"setpts=N/({float(self.info.fps)!r}*TB)"
        filters = [self.window(cut), clock]
        if cut.crop is not None:
            x, y, width, height = cut.crop
            filters.append(f"crop={width}:{height}:{x}:{y}")
            facts = replace(facts, width=width, height=height)
        tones = _TONES.format(_CURVES[facts.hdr]) if facts.hdr else ""
        filters += [tones, resize_filter(facts, settings.size, settings.mode)]
        filters += [f"fps={settings.fps}"] if settings.fps else []
        # ffmpeg 7.0 forgets how long the last frame is shown, and MP4 would leave it out.
        shown = f"if(DURATION\\,DURATION\\,{self.gap!r}/TB)"
        sound: tuple = ("-an",)
        if settings.audio and facts.audio_codec:
            start, stop = (seconds + self.origin for seconds in self.seconds(cut))
            trim = f"atrim=start={start:.6f}:end={stop:.6f},asetpts=PTS-STARTPTS"
            sound = ("-map", "0:a:0", "-af", trim, "-c:a", "aac", "-b:a", "128k")
        return [
            *("-map", f"0:{self.track}", "-vf", ",".join(filter(None, filters)) or "null", *sound),
            # What every player shows and can be read at random places.
            *("-c:v", "libx264", "-crf", settings.crf, "-preset", settings.preset, "-threads", 1),
            *("-g", settings.gop, "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-sn", "-dn"),
            *("-bsf:v", f"setts=pts=PTS:dts=DTS:duration={shown}"),
            *("-fps_mode", "passthrough", local(target)),
        ]

    def seconds(self, cut: Cut) -> tuple[float, float]:
        """From when to when a clip is shown."""
        return float(self.times[cut.first]), float(self.times[cut.end - 1]) + self.gap

    @cached_property
    def gap(self) -> float:
        """The shortest time from one frame to the next."""
        gaps = np.diff(self.times)
        return float(gaps[gaps > 0].min()) if (gaps > 0).any() else 0.04

    @property
    def origin(self) -> float:
        """Seconds on the file's own clock at which the first frame is shown."""
        return float(self._index.pts[0]) * self._index.tick

    @cached_property
    def clocked(self) -> bool:
        """Whether ffmpeg gives the frames the same times as the index. AVI has none of its own, and
        ffmpeg guesses them one frame late."""
        with open_video(self.path) as container:
            return self._index.clocked and container.format.name.startswith(_CLOCKED)

    def before(self, first: int) -> tuple:
        """Options in front of the input: where seeking is exact, decoding starts a little before
        the first cut, and -copyts lets the filters see the time stamps that the index has."""
        seek = float(self.times[first]) - _SEEK_MARGIN
        return ("-ss", f"{seek:.3f}", "-noaccurate_seek") if self.clocked and seek > 0 else ()

    def window(self, cut: Cut) -> str:
        """Filter that lets a clip's frames through: by their times, or counted from the start."""
        if not self.clocked:
            return f"trim=start_frame={cut.first}:end_frame={cut.end}"
        start, last = float(self.times[cut.first]), float(self.times[cut.end - 1])
        low, high = start + self.origin - self.gap / 2, last + self.origin + self.gap / 2
        return f"trim=start={low:.6f}:end={high:.6f}"


def verify(
    path: str | Path, num_frames: int, slack: int = 0, size: tuple[int, int] | None = None
) -> Facts:
    """Decode a written file and compare; returns its facts.

    Raises:
        OutputError: it is no video, has another size or over `slack` frames too many or too few.
    """
    try:
        reader = VideoReader(path)
        facts, decoded = probe_file(reader), sum(1 for _ in reader)
    except VideoError as error:
        said = str(error).replace(str(path), "the file")
        raise OutputError(f"empty output: {said}") from error
    if abs(decoded - num_frames) > slack or decoded != facts.num_frames:
        raise OutputError(f"{decoded} frames were written instead of {num_frames}")
    if size is not None and (facts.width, facts.height) != tuple(size):
        raise OutputError(f"written at {facts.width}x{facts.height}, not {size[0]}x{size[1]}")
    return facts
