"""Video file -> Clip, exact to the frame whatever the container does.

Frame i is the i-th picture a player shows. An index of packet time stamps (demuxed, not decoded)
says where it lies, so a span costs one seek and a short decode. Every picture after a seek is
checked against the index; where a container seeks imprecisely or hides its time stamps, the file is
decoded from its start: slower, never wrong. Damage is named by its place, never shown as a picture.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import VideoReformatter

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.damage import complaints, grave, has_hole, lacks_its_end, torn_places
from vidgen_lab.video.ffmpeg import local
from vidgen_lab.video.index import frame_rate, index_packets, index_pictures
from vidgen_lab.video.orientation import turned, upright

# From 17 on PyAV converts colours and sizes on every core unless it is told otherwise.
_ALONE = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
# A name with a colon is a file here, never a protocol, and a playlist reaches no other machine.
FILES_ONLY = {"protocol_whitelist": "file"}
_BACK = (0.0, 3.0, 15.0)  # seconds before the wanted frame to seek to, one try after another
_MOST = 0.7  # of the frames up to the last that is wanted: then no seek saves decoding
_PREDICTED = (2, 3)  # picture types P and B: no picture to begin with
_CODECS = {"libdav1d": "av1"}  # decoders that are not called as what they decode


class VideoError(ValueError):
    """The file exists but is not a video that can be decoded."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file really holds; width and height as shown, so after rotation."""

    width: int
    height: int
    fps: float  # frames per second; the average where the rate varies
    num_frames: int  # counted, not the header's promise
    duration: float  # seconds, num_frames / fps
    codec: str
    pix_fmt: str
    rotation: int  # degrees counter-clockwise that the stored picture is turned: 0, 90, 180, 270
    variable_fps: bool
    has_audio: bool


class _Astray(Exception):
    """Decoding after a seek gives something else than the index says."""


class Picture(NamedTuple):
    """A decoded picture, of frame `number`; not `whole` from damage to the next key frame."""

    number: int
    frame: av.VideoFrame
    whole: bool


def probe_video(path: str | Path) -> VideoInfo:
    """Size, rate, frame count and codec of a video file; decodes one frame.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        VideoError: it is no readable video.
    """
    return VideoReader(path).info


def read_clip(
    path: str | Path, start: int = 0, num_frames: int | None = None, stride: int = 1
) -> Clip:
    """Read frames start, start + stride, ... (num_frames of them; None: up to the end).

    The clip's fps is the file's rate divided by `stride`; its meta names source and span.
    Reading many spans of one file: keep a `VideoReader`, it indexes the file once.

    Raises:
        ValueError: the span leaves the file.
        VideoError: frames cannot be decoded; further errors as of `probe_video`.
    """
    return VideoReader(path).read(start, num_frames, stride)


class VideoReader:
    """Index of one video file. Holds no open handle, so it pickles into DataLoader workers.

    `info` is its VideoInfo, `track` the number of the stream that is read, `times` float64
    [num_frames] the seconds at which the frames are shown, the first at 0, and `transfer` the curve
    of the tones, 16 for PQ and 18 for HLG.

    Args:
        shrink_to: pixels that the shorter side of what is read has at most; scaling what the
            decoder gives costs a fraction of converting a large picture to RGB first, and no
            memory. None: as it is in the file.
    """

    def __init__(self, path: str | Path, shrink_to: int | None = None) -> None:
        self.path, self.shrink_to = Path(path), shrink_to
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path} is a folder, not a video file")
        if not self.path.exists():
            raise FileNotFoundError(f"no video file at {self.path}")
        with open_video(self.path) as container:
            stream = container.streams.best("video")
            self.track = stream.index
            decoder, tick = stream.codec_context.name, float(stream.time_base)
            self._codec = _CODECS.get(decoder, decoder)
            header_rate = float(stream.average_rate or stream.guessed_rate or 0)
            has_audio = bool(container.streams.audio)
            self._index, first = index_packets(container, stream)
            # Known for sure when a picture was decoded: a container's tags may be of its source.
            self.transfer = int(stream.codec_context.color_trc or 0)
        if first is None:
            raise VideoError(f"{self.path} has a video track but not one frame that decodes")
        if self._index is None:
            stamps = [picture.frame.pts for picture in self.pictures()]
            self._index = index_pictures(stamps, header_rate or 25.0, tick)
        self.times = self._index.times
        num_frames = len(self.times)
        fps, variable = frame_rate(self.times, header_rate, self._index.tick)
        self._upright = upright(first)
        sides = first.width, first.height
        sides = sides[::-1] if self._upright[0] else sides
        self.info = VideoInfo(
            *sides,
            fps=fps,
            num_frames=num_frames,
            duration=num_frames / fps,
            codec=self._codec,
            pix_fmt=first.format.name,
            rotation=round((first.rotation or 0) / 90) * 90 % 360,
            variable_fps=variable,
            has_audio=has_audio,
        )
        scale = min(1.0, shrink_to / min(sides)) if shrink_to else 1.0
        self._size = tuple(max(1, round(side * scale)) for side in sides)

    def read(self, start: int = 0, num_frames: int | None = None, stride: int = 1) -> Clip:
        """Frames start, start + stride, ... as a Clip; see `read_clip`."""
        wanted = self._span(start, num_frames, stride)
        if self._index.seekable and start:
            with suppress(_Astray, av.FFmpegError):
                return self._clip(self._chosen(self._pictures_after_seek(start), wanted), wanted)
        return self._clip(self._chosen(self.pictures(), wanted), wanted)

    def read_spans(self, spans: Sequence[tuple[int, int, int]]) -> Iterator[Clip]:
        """A Clip for each (start, num_frames, stride), in order. Where they cover most of a file,
        or it cannot be sought in, it is decoded once for all of them. Raises what `read` raises."""
        wanted = [self._span(*span) for span in spans]
        covered = sum(span[-1] - span[0] + 1 for span in wanted)
        far = max((span[-1] + 1 for span in wanted), default=0)
        if self._index.seekable and covered < _MOST * far:
            yield from (self.read(*span) for span in spans)
            return
        places = sorted({number for span in wanted for number in span})
        chosen, kept = zip(places, self._chosen(self.pictures(), places), strict=True), {}
        for done, span in enumerate(wanted, 1):
            while span[-1] not in kept:
                kept |= [next(chosen)]
            yield self._clip((kept[number] for number in span), span)
            still = min((s.start for s in wanted[done:]), default=0)
            kept = {n: picture for n, picture in kept.items() if n >= still}

    def _clip(self, frames: Iterator[np.ndarray], span: range) -> Clip:
        shape = (*self._size[::-1], 3)  # known before, so that no frame is held twice
        pixels = np.fromiter(frames, np.dtype((np.uint8, shape)), len(span))
        meta = {"source": str(self.path), "start": span.start, "stride": span.step}
        return Clip(pixels, self.info.fps / span.step, meta)

    def __iter__(self) -> Iterator[np.ndarray]:
        """All frames in order, uint8 [H, W, 3], one in memory at a time. VideoError at damage."""
        yield from self._chosen(self.pictures(), range(self.info.num_frames))

    def pictures(self, careful: bool = False) -> Iterator[Picture]:
        """All pictures in order as the decoder gives them, damaged ones too.

        A number that is left out is a frame that did not decode. In front of the first picture
        damage is none: a recording that begins inside a stream cannot be decoded there yet.

        Args:
            careful: also take the decoder's own complaints for damage, and raise VideoError at the
                end of a file whose own end is missing.
        """
        total = len(self._index.pts) if self._index else np.inf
        pts = self._index.pts if self._index and self._index.clocked else ()
        places = {int(stamp): number for number, stamp in enumerate(pts)}
        number, hurt, keys = -1, None, set()  # hurt: the first frame since the damage
        listening = complaints() if careful else nullcontext([])
        with open_video(self.path) as container, listening as heard, suppress(av.FFmpegError):
            stream = container.streams.best("video")
            kind = container.format.name
            cut_off = careful and lacks_its_end(self.path, kind)
            torn_at = torn_places(self.path, kind, pts) if careful and places else ()
            for packet in container.demux(stream):  # as far as the file can be read
                torn = grave(heard)
                cut_off |= torn and packet.size == 0  # said on the way to the end
                try:
                    frames, failed = packet.decode(), False
                except av.FFmpegError:
                    frames, failed = [], True
                failed |= torn or grave(heard) or has_hole(packet, self._codec)
                keys |= {packet.pts} if packet.is_keyframe and not failed else set()
                if number >= 0 and (failed or hurt is not None):
                    # Also what is shown before the broken picture, but comes behind it in the file.
                    place = places.get(packet.pts, number + 1)
                    hurt = place if hurt is None else min(hurt, place)
                for frame in frames:
                    expected = number + 1
                    place = places.get(frame.pts, expected)
                    if not expected <= place < total:  # late: a later picture was shown before it
                        continue
                    number, stray = place, bool(places) and frame.pts not in places
                    if hurt is None and number in torn_at:
                        hurt = number
                    if hurt is None and (frame.is_corrupt or stray or number > expected):
                        hurt = expected
                    # An AV1 decoder calls a key frame also what repeats one for a lost picture.
                    fresh = frame.key_frame and frame.pts in keys and not frame.is_corrupt
                    # Without clocks, nobody knows how many pictures were lost.
                    if places and fresh and hurt is not None and number > hurt:
                        hurt = None
                    yield Picture(number, frame, hurt is None or number < hurt)
        if cut_off:
            raise VideoError(f"{self.path} is damaged: cut off after {number + 1} frames")

    def converted(self, careful: bool = False) -> Iterator[tuple[int, np.ndarray, bool]]:
        """The same as (number, uint8 [H, W, 3], whole)."""
        convert, pictures = self._converter(), self.pictures(careful)
        return ((number, convert(frame), whole) for number, frame, whole in pictures)

    def _span(self, start: int, num_frames: int | None, stride: int) -> range:
        total = self.info.num_frames
        if stride < 1:
            raise ValueError(f"stride must be at least 1, not {stride}")
        if not 0 <= start < total:
            raise ValueError(f"start must lie in 0..{total - 1}, not {start}: {self.path}")
        available = len(range(start, total, stride))
        count = available if num_frames is None else num_frames
        if not 1 <= count <= available:
            raise ValueError(
                f"{num_frames} frames from {start} at stride {stride} asked for, but {self.path} "
                f"has {total} frames: 1..{available} possible"
            )
        return range(start, start + count * stride, stride)

    def _pictures_after_seek(self, first: int) -> Iterator[Picture]:
        """Pictures from a key frame at or before frame `first` on; raises _Astray where one is
        missing, damaged, or not the one that the index has next."""
        pts = self._index.pts
        with open_video(self.path) as container:
            key, packets = self._land(container, int(pts[first]))
            number = int(np.searchsorted(pts, key.pts))
            for packet in chain([key], packets):
                if has_hole(packet, self._codec):
                    raise _Astray
                for frame in packet.decode():
                    if frame.pts is not None and frame.pts < key.pts:
                        continue  # shown before the key frame, made of pictures before it
                    # A container may call any packet a key frame: the decoder has to say so, too.
                    start = frame.key_frame and frame.pict_type not in _PREDICTED
                    expected = pts[number] if number < len(pts) else None
                    no_start = frame.pts == key.pts and not start
                    if frame.pts != expected or frame.is_corrupt or no_start:
                        raise _Astray
                    yield Picture(number, frame, True)
                    number += 1
        raise _Astray

    def _land(
        self, container: av.container.InputContainer, target: int
    ) -> tuple[av.Packet, Iterator[av.Packet]]:
        """A key frame at or before the time stamp `target`, and what follows it."""
        stream = container.streams.best("video")
        for back in _BACK:
            aim = target - round(back / self._index.tick)
            container.seek(aim, stream=stream, backward=True, any_frame=False)
            packets = container.demux(stream)
            key = next((p for p in packets if p.is_keyframe and p.size), None)
            if key is not None and key.pts is not None and key.pts <= target:
                return key, packets
        raise _Astray

    def _chosen(self, pictures: Iterator[Picture], places: Sequence[int]) -> Iterator[np.ndarray]:
        """The frames with these numbers, which rise, uint8 [H, W, 3]; VideoError where one of them
        is damaged or missing."""
        waiting, convert, number = iter(places), self._converter(), -1
        place = next(waiting)
        for number, frame, whole in pictures:
            if number < place:
                continue
            if not whole or number > place:
                seconds = self.times[place]
                raise VideoError(f"{self.path} is damaged at frame {place} ({seconds:.2f} s)")
            yield convert(frame)
            place = next(waiting, None)
            if place is None:
                return
        raise VideoError(
            f"{self.path} is damaged: it announces {self.info.num_frames} frames, "
            f"decoding ends after {number + 1}"
        )

    def _converter(self) -> Callable[[av.VideoFrame], np.ndarray]:
        """Function from a decoded picture to uint8 [H, W, 3], upright; always of one size, also
        where the stream changes its own. Remembers how to convert from one picture to the next."""
        turns, reformatter = self._upright, VideoReformatter()
        size = self._size[::-1] if turns[0] else self._size
        how = "AREA" if self._size != (self.info.width, self.info.height) else None

        def convert(frame: av.VideoFrame) -> np.ndarray:
            rgb = reformatter.reformat(frame, *size, "rgb24", interpolation=how, **_ALONE)
            return turned(rgb.to_ndarray(), *turns)

        return convert


def open_video(path: str | Path) -> av.container.InputContainer:
    """Open a local file, whatever its name; `streams.best("video")` is the track, on one thread.

    Raises:
        VideoError: there is no track that could be decoded.
    """
    path = Path(path)
    try:
        # Given as `options`, PyAV before 16 crashes on files that announce no tracks (FLV, MPEG).
        # Titles of old files are not always in UTF-8.
        container = av.open(local(path), container_options=FILES_ONLY, metadata_errors="replace")
    except av.FFmpegError as err:
        reason = "the file is empty" if path.stat().st_size == 0 else err.strerror
        raise VideoError(f"{path} is not a readable video: {reason}") from err
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        container.close()
        what = "no video track" if stream is None else "a video track of an unknown codec"
        raise VideoError(f"{path} has {what}")
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= Flags.unaligned  # else a few columns that are cut off are shown
    return container
