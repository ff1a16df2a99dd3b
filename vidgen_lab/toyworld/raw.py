"""A raw collection as one finds it: good clips among every defect a pipeline has to notice.

Every defect is planted and written down in `truth.jsonl` beside the folder of videos, so that
precision and recall of a gate, of scene cuts and of duplicate groups are numbers and not guesses.
"""

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidgen_lab.files import read_rows, write_files
from vidgen_lab.toyworld.language import caption
from vidgen_lab.toyworld.renderer import render
from vidgen_lab.toyworld.world import Scene, sample_scene
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.ffmpeg import local, run_ffmpeg
from vidgen_lab.video.writer import encode_clip

WIDTH, HEIGHT, FPS = 160, 96, 12
SHARES = {
    "clean": 80, "blur": 12, "grainy_blur": 4, "frozen": 8, "grainy_still": 4, "tiny": 10,
    "short": 10, "film": 14,
    "letterbox": 8, "over_exposed": 8, "dark": 4, "exact_duplicate": 10, "reencoded": 7,
    "resized": 7, "trimmed": 7, "truncated": 6, "text": 3, "wrong_extension": 3, "rotated": 4,
    "variable_rate": 4, "odd_sound": 6, "hostile_name": 7,
}  # fmt: skip
MOST_FILES = 5000  # shows half of what there is: no scene comes twice, so a world can run out
HOSTILE_NAMES = (
    "café.mp4", "日本の花.mp4", "with  spaces.mp4", "it's 100%.mp4", "-leading.mp4",
    "quote\"and;semi&amp.mp4" if os.name != "nt" else "semi;amp&.mp4", "#hash%05d.mp4",
)  # fmt: skip
_SOUNDS = (
    (".avi", "pcm_s16le"), (".mkv", "flac"), (".mov", "pcm_alaw"), (".mkv", "wmav2"),
    (".mkv", "libopus"), (".avi", "libmp3lame"),
)  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """What is true of one file of the collection.

    Attributes:
        file: path below the folder of videos.
        kind: a key of SHARES.
        expected: "kept", "rejected" or "error".
        reason: the gate that has to reject it, or "duplicate"; "" for a file that is not rejected.
        group: files with equal numbers show the same.
        cuts: numbers of the frames that begin a further shot.
        text: a caption, of a film's first shot; "" for a file that is no video.
        scene: the fields of the Scene, of a film's first; {} for a copy and what is no video.
    """

    file: str
    kind: str
    expected: str
    reason: str
    group: int
    cuts: tuple[int, ...] = ()
    text: str = ""
    scene: dict[str, Any] = field(default_factory=dict)


def write_raw(folder: str | Path, count: int = 226, seed: int = 0) -> Path:
    """Write `count` files to folder/videos and their truth to folder/truth.jsonl.

    Every kind of defect appears at least once. The same arguments give the same collection with
    one version of the encoders.

    Raises:
        ValueError: `count` is too small for all kinds, or too large for the world.
        FileExistsError: there is a collection already, or a truth.jsonl of something else.
    """
    folder = Path(folder)
    if not len(SHARES) <= count <= MOST_FILES:
        raise ValueError(
            f"a raw collection has at least {len(SHARES)} files, one a defect, and at most "
            f"{MOST_FILES}, as no scene is shown twice; not {count}"
        )
    for there in (folder / "videos", folder / "truth.jsonl"):
        if there.exists():
            raise FileExistsError(f"{there} exists already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".videos.", dir=folder) as part:
        building = Path(part) / "videos"
        building.mkdir()
        maker = _Maker(building, np.random.default_rng(seed))
        for kind, number in _numbers(count).items():
            for _ in range(number):
                maker.make(kind)
        lines = "".join(json.dumps(vars(p), ensure_ascii=False) + "\n" for p in maker.planted)
        building.rename(folder / "videos")
        # last: whoever finds it finds a whole collection
        write_files({folder / "truth.jsonl": lines}, new=True)
    return folder


def read_truth(folder: str | Path) -> list[Planted]:
    """What `write_raw` planted. ValueError names a line that says nothing of the kind."""
    return read_rows(
        Path(folder) / "truth.jsonl",
        lambda row: Planted(**row | {"cuts": tuple(row["cuts"])}),
        "truth of a file",
    )


def _numbers(count: int) -> dict[str, int]:
    """How many of each kind: in proportion, at least one, `count` together."""
    total = sum(SHARES.values())
    numbers = {kind: max(1, share * count // total) for kind, share in SHARES.items()}
    numbers["clean"] += count - sum(numbers.values())
    return numbers


class _Maker:
    """Makes the files one by one; originals are remembered to be copied from."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.folder, self.rng = folder, rng
        self.planted: list[Planted] = []
        self._originals: list[tuple[Planted, Clip]] = []
        self._shown: set[tuple[str, ...]] = set()

    def make(self, kind: str) -> None:
        match kind:
            case "text":
                page = b"<html><body>404 Not Found</body></html>\n" * 40
                self._put(kind, page, "clip_*.mp4", None, "error")
            case "film":
                self._film()
            case _:
                change, end, *crf = _CHANGES.get(kind, _CHANGES["clean"])
                scene = of = None
                if end == "duplicate":
                    of, clip = self._originals[int(self.rng.integers(len(self._originals)))]
                else:
                    scene, clip = self._shot()
                data = encode_clip(Clip(change(clip.frames, self.rng), FPS), *crf)
                planted = self._put(kind, *self._disguised(kind, data), scene, end, of)
                if kind == "clean":
                    self._originals.append((planted, clip))

    def _film(self) -> None:
        """Two to five shots with hard cuts, each long enough to be a clip of its own and in another
        place than the one before."""
        shots: list[tuple[Scene, Clip]] = []
        for _ in range(int(self.rng.integers(2, 6))):
            shots.append(self._shot(elsewhere=shots[-1][0].background if shots else ""))
        cuts = np.cumsum([clip.num_frames for _, clip in shots[:-1]]).tolist()
        film = Clip(np.concatenate([clip.frames for _, clip in shots]), FPS)
        self._put("film", encode_clip(film), "clip_*.mp4", shots[0][0], cuts=tuple(cuts))

    def _disguised(self, kind: str, data: bytes) -> tuple[bytes, str]:
        """What becomes of a coded clip, and its name, in which a star stands for a number."""
        name, made = "clip_*.mp4", sum(planted.kind == kind for planted in self.planted)
        match kind:
            case "exact_duplicate":
                name = "copies/clip_*.mp4"
            case "truncated":  # an upload that broke off: the index at the front promises more
                data = data[: int(len(data) * self.rng.uniform(0.5, 0.8))]
            case "wrong_extension":
                name = "clip_*" + (".avi", ".mkv", ".txt")[len(self.planted) % 3]
            case "rotated":
                data = self._converted(data, ".mp4", ("-display_rotation", 90), ("-c", "copy"))
            case "variable_rate":  # as a phone in the dark: the second half runs at half the rate
                half = "setpts='if(lt(N,12),N,12+(N-12)*2)/(12*TB)'"
                data = self._converted(data, ".mp4", (), ("-vf", half, "-fps_mode", "vfr"))
            case "odd_sound":
                suffix, codec = _SOUNDS[made % len(_SOUNDS)]
                tone = ("-f", "lavfi", "-t", 2, "-i", "sine=440")
                maps = ("-map", "0:v", "-map", "1:a", "-c:a", codec)
                data, name = self._converted(data, suffix, (), (*tone, *maps)), f"clip_*{suffix}"
            case "hostile_name":
                lap, number = divmod(made, len(HOSTILE_NAMES))
                name = f"odd {lap}/{HOSTILE_NAMES[number]}"
        return data, name

    def _shot(self, elsewhere: str = "") -> tuple[Scene, Clip]:
        """A clip without defects, two to three seconds long; `elsewhere`: not on this background.

        What can be seen of it was not shown before: a second "red ball moving left in a meadow"
        would be no copy by its bytes and one by any other measure.
        """
        while True:
            scene = sample_scene(self.rng, held_out=None)
            look = tuple(scene.visible.values())
            if scene.background != elsewhere and look not in self._shown:
                break
        self._shown.add(look)
        frames = int(self.rng.integers(2 * FPS, 3 * FPS + 1))
        return scene, render(scene, WIDTH, HEIGHT, frames, FPS).clip

    def _converted(self, data: bytes, suffix: str, before: tuple, after: tuple) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, made = Path(folder) / "source.mp4", Path(folder) / f"made{suffix}"
            source.write_bytes(data)
            run_ffmpeg(*before, "-i", local(source), *after, local(made))
            return made.read_bytes()

    def _put(
        self, kind: str, data: bytes, name: str, scene: Scene | None, end: str = "kept",
        of: Planted | None = None, cuts: tuple[int, ...] = (),
    ) -> Planted:  # fmt: skip
        """Write a file and what is true of it. Names are random, so that nothing can be guessed
        from them. `end` is "kept", "error" or the reason of a rejection, `of` what it copies."""
        if "*" in name:
            name = name.replace("*", f"{int(self.rng.integers(16**8)):08x}")
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        rejected = end not in ("kept", "error")
        planted = Planted(
            file=name,
            kind=kind,
            expected="rejected" if rejected else end,
            reason=end if rejected else "",
            group=of.group if of else len(self.planted),
            cuts=cuts,
            text=caption(scene, "minimal", self.rng) if scene else (of.text if of else ""),
            scene=dict(vars(scene)) if scene else {},
        )
        self.planted.append(planted)
        return planted


# What spoils a clip: functions of its frames [T, H, W, 3].


def _blur(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sigma = rng.uniform(2.5, 4.0)
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])


def _freeze(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.repeat(frames[:1], len(frames), axis=0)


def _grainy_blur(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur under grain: a sharp-looking number for many a measure."""
    grain = rng.normal(0, 5, frames.shape[:3])
    return _with_grain(_blur(frames, rng), grain)


def _grainy_still(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph of a screen, so to speak: every frame differs from the last, nothing happens."""
    grain = rng.normal(0, rng.uniform(3, 6), frames.shape[:3])
    return _with_grain(_freeze(frames, rng), grain)


def _with_grain(frames: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(frames + grain[..., None], 0, 255)).astype(np.uint8)


def _resized(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])


def _barred(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bars above and below are no reason to lose a film: they are cut off."""
    frames, bar = frames.copy(), int(HEIGHT * rng.uniform(0.08, 0.16))
    frames[:, :bar] = frames[:, -bar:] = 0
    return frames


def _over_expose(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Opened up until half to four fifths of the picture is burnt out. A gain alone would leave a
    night dark and call it over-exposed."""
    share, light, gain = rng.uniform(0.5, 0.8), frames.astype(np.float32), 1.0
    while (_exposed(light[0], gain).min(axis=-1) < 255).mean() > 1 - share:
        gain *= 1.1
    return _exposed(light, gain).astype(np.uint8)


def _exposed(frames: np.ndarray, gain: float) -> np.ndarray:
    """Light spills over into the other colours, as in a sensor, so that even pure red burns out."""
    return np.clip(frames * gain + 60 * (gain - 1), 0, 255)


_SMALLER = int(WIDTH * 0.8) // 2 * 2, int(HEIGHT * 0.8) // 2 * 2
# What becomes of the frames, how the file has to end, and of copies how much the coding spares.
_CHANGES: dict[str, tuple] = {
    "clean": (lambda frames, rng: frames, "kept"),
    "blur": (_blur, "blurred"),
    "grainy_blur": (_grainy_blur, "blurred"),
    "frozen": (_freeze, "frozen"),
    "grainy_still": (_grainy_still, "static"),
    "tiny": (lambda frames, rng: _resized(frames, (64, 38)), "too_small"),
    "letterbox": (_barred, "kept"),
    "short": (lambda frames, rng: frames[: int(rng.integers(4, 9))], "too_short"),
    "over_exposed": (_over_expose, "over_exposed"),
    "truncated": (lambda frames, rng: frames, "error"),
    "dark": (
        lambda frames, rng: (frames * rng.uniform(0.02, 0.05)).astype(np.uint8), "under_exposed",
    ),
    "exact_duplicate": (lambda frames, rng: frames, "duplicate"),
    "reencoded": (lambda frames, rng: frames, "duplicate", 34),
    "resized": (lambda frames, rng: _resized(frames, _SMALLER), "duplicate", 23),
    "trimmed": (
        lambda frames, rng: frames[int(rng.integers(1, 4)) : -int(rng.integers(1, 4))],
        "duplicate", 23,
    ),
}  # fmt: skip
