"""Annotating whole videos (2.L12)."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vidgen_lab.files import plain
from vidgen_lab.pipeline.annotate import annotators
from vidgen_lab.pipeline.read.scenes import SceneDetector
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import VideoError, VideoReader

_SAMPLES = 48  # frames at most that an annotator gets to see
_SAMPLE_SIDE = 512  # pixels of their shorter side, at most; models look at 224 to 448
Frames = tuple[int, int] | None  # [first, end) of a video; None: all of it


class ScalableAnnotationPipeline:
    """Scenes of a video, each with its objects, actions and caption.

    Any object with the method of `annotators` may stand in for the embedded ones.
    """

    def __init__(
        self,
        detector: annotators.Detector | None = None,
        actor: annotators.ActionRecognizer | None = None,
        captioner: annotators.Captioner | None = None,
    ) -> None:
        self.annotators = (
            detector or annotators.MotionDetector(),
            actor or annotators.FlowActions(),
            captioner or annotators.TemplateCaptioner(),
        )

    def annotate_single_video(self, path: str | Path) -> dict[str, Any]:
        """{file, scenes: [{frames, span, objects, actions, caption, annotators}]}.

        Frame numbers of objects are those of the video. Raises VideoError, FileNotFoundError.
        """
        spans = SceneDetector().detect_scenes(path)
        found = annotate_spans(path, [(s.first, s.end) for s in spans], *self.annotators)
        scenes = [
            {"frames": [s.first, s.end], "span": [s.start, s.stop], **scene}
            for s, scene in zip(spans, found, strict=True)
        ]
        return plain({"file": Path(path).name, "scenes": scenes})

    def annotate_video_batch(self, paths: Iterable[str | Path]) -> list[dict[str, Any]]:
        """One result a path, in their order; a broken video has an "error" and stops nobody."""
        results = []
        for path in paths:
            try:
                results.append(self.annotate_single_video(path))
            except (VideoError, OSError) as error:
                results.append({"file": Path(path).name, "error": str(error)})
        return results


def annotate_spans(
    path: str | Path, spans: Sequence[Frames], *who: Any
) -> Iterator[dict[str, Any]]:
    """Of each of these spans what `annotate_clip` finds in its `sample_clips`; who: detector,
    actor, captioner. Frames and boxes of objects are those of the file."""
    for clip in sample_clips(path, spans, _SAMPLES):
        found = annotators.annotate_clip(clip, *who)
        for thing in found["objects"]:
            thing["frame"] = clip.meta["start"] + thing["frame"] * clip.meta["stride"]
            thing["box"] = [round(value * clip.meta["reduced"]) for value in thing["box"]]
        yield found


def sample_clips(path: str | Path, frames: Sequence[Frames], samples: int) -> Iterator[Clip]:
    """Of each of these clips at most `samples` frames, evenly spaced and reduced, so that long and
    large clips cost no more memory than short and small ones; `meta["reduced"]` says how many
    times."""
    video, spans = VideoReader(path, shrink_to=_SAMPLE_SIDE), []
    for first, end in (span or (0, video.info.num_frames) for span in frames):
        stride = max(1, -(-(end - first) // samples))
        spans.append((first, len(range(first, end, stride)), stride))
    for clip in video.read_spans(spans):
        reduced = video.info.width / clip.width
        yield Clip(clip.frames, clip.fps, {**clip.meta, "reduced": reduced})
