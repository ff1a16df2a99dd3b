"""Annotating whole videos (2.L12)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vidgen_lab.files import plain
from vidgen_lab.pipeline.annotate import annotators
from vidgen_lab.pipeline.read.scenes import SceneDetector
from vidgen_lab.video.reader import VideoError, VideoReader

_SAMPLES = 48


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
        path, scenes = Path(path), []
        reader = VideoReader(path)
        for span in SceneDetector().detect_scenes(path):
            stride = max(1, -(-span.num_frames // _SAMPLES))
            clip = reader.read(span.first, len(range(span.first, span.end, stride)), stride)
            found = annotators.annotate_clip(clip, *self.annotators)
            for thing in found["objects"]:
                thing["frame"] = span.first + thing["frame"] * stride
            place = {"frames": [span.first, span.end], "span": [span.start, span.stop]}
            scenes.append({**place, **found})
        return plain({"file": path.name, "scenes": scenes})

    def annotate_video_batch(self, paths: Iterable[str | Path]) -> list[dict[str, Any]]:
        """One result a path, in their order; a broken video has an "error" and stops nobody."""
        results = []
        for path in paths:
            try:
                results.append(self.annotate_single_video(path))
            except (VideoError, OSError) as error:
                results.append({"file": Path(path).name, "error": str(error)})
        return results
