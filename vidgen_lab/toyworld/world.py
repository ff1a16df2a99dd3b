"""What exists in the toy world, which combinations make sense, and which are held out."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

SUBJECTS = (
    "ball", "cube", "star", "heart", "ring", "rocket", "car", "fish",
    "dog", "rose", "butterfly", "hummingbird", "lighthouse", "cloud", "aurora", "coffee",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
MOTIONS = (
    "left", "right", "up", "down", "bouncing", "spinning", "growing", "orbiting", "in_place",
)  # fmt: skip
BACKGROUNDS = ("meadow", "desert", "ocean", "night_sky", "mountains", "city", "forest", "snow")
STYLES = ("cartoon", "vintage", "neon")

# Kept from the embedded text-to-video models, so that chapter 5 has something to teach them. The
# renderer, the language, the VAEs, the text encoders and the judge know them.
RESERVED_SUBJECTS = ("robot", "mushroom")
RESERVED_STYLES = ("papercut",)

ATTRIBUTES = {
    "subject": SUBJECTS + RESERVED_SUBJECTS,
    "colour": COLOURS,
    "motion": MOTIONS,
    "background": BACKGROUNDS,
    "style": STYLES + RESERVED_STYLES,
}

BODIES = ("ball", "cube", "star", "heart", "ring")

_PATHS = ("left", "right", "up", "down")
LEGAL_MOTIONS = {body: (*_PATHS, "bouncing", "spinning", "growing", "orbiting") for body in BODIES}
LEGAL_MOTIONS |= {
    "rocket": (*_PATHS, "spinning", "growing", "orbiting"),
    "car": ("left", "right", "bouncing", "growing"),
    "fish": (*_PATHS, "growing", "orbiting"),
    "dog": ("left", "right", "bouncing", "growing"),
    "rose": ("growing", "spinning", "in_place"),
    "butterfly": (*_PATHS, "growing", "orbiting", "in_place"),
    "hummingbird": (*_PATHS, "in_place"),
    "lighthouse": ("in_place", "growing"),
    "cloud": ("left", "right", "growing"),
    "aurora": ("in_place",),
    "coffee": ("in_place", "growing"),
    "robot": ("left", "right", "bouncing", "growing"),
    "mushroom": ("left", "right", "bouncing", "growing", "in_place"),
}

# Things that stand on the ground do not stand on water; northern lights want a dark or cold sky.
ILLEGAL_BACKGROUNDS = {
    "car": ("ocean",),
    "dog": ("ocean",),
    "rose": ("ocean",),
    "robot": ("ocean",),
    "mushroom": ("ocean",),
    "aurora": ("meadow", "desert"),
}

STYLE_SHARES = (0.6, 0.2, 0.2)
RESERVED_STYLE_SHARE = 0.12  # of the scenes that may show what is reserved
HELD_OUT_SHARE = 10  # one composition in ten


@dataclass(frozen=True)
class Scene:
    """One scene; together with the renderer's size and length it determines every pixel: `seed`
    decides what the other attributes (see ATTRIBUTES) leave open.

    Raises:
        ValueError: an attribute is unknown or the combination is not part of the grammar.
    """

    subject: str
    colour: str
    motion: str
    background: str
    style: str = "cartoon"
    seed: int = 0

    def __post_init__(self) -> None:
        for attribute, values in ATTRIBUTES.items():
            value = getattr(self, attribute)
            if value not in values:
                raise ValueError(
                    f"unknown {attribute} {value!r}; choose one of {', '.join(values)}"
                )
        if self.motion not in LEGAL_MOTIONS[self.subject]:
            legal = ", ".join(LEGAL_MOTIONS[self.subject])
            raise ValueError(f"a {self.subject} cannot do {self.motion!r}; it can do {legal}")
        if self.background not in legal_backgrounds(self.subject):
            legal = ", ".join(legal_backgrounds(self.subject))
            raise ValueError(f"no {self.subject} in {self.background!r}; possible: {legal}")

    @property
    def reserved(self) -> bool:
        """True when the subject or the style is one that the text-to-video models never saw."""
        return self.subject in RESERVED_SUBJECTS or self.style in RESERVED_STYLES

    @property
    def visible(self) -> dict[str, str]:
        """The attributes a viewer can see: black-and-white film hides the colour."""
        names = [name for name in ATTRIBUTES if name != "colour" or self.style != "vintage"]
        return {name: getattr(self, name) for name in names}


def legal_backgrounds(subject: str) -> tuple[str, ...]:
    """Backgrounds in which `subject` makes sense."""
    return tuple(b for b in BACKGROUNDS if b not in ILLEGAL_BACKGROUNDS.get(subject, ()))


def is_held_out(scene: Scene) -> bool:
    """True for the compositions (subject, colour, motion) that no training set contains.

    The choice hashes the names alone, so it is the same on every machine and in every version.
    """
    key = f"{scene.subject}|{scene.colour}|{scene.motion}".encode()
    return crc32(key) % HELD_OUT_SHARE == 0


def sample_scene(
    rng: np.random.Generator, held_out: bool | None = False, reserved: bool = False
) -> Scene:
    """Draw a legal scene, its own seed included.

    `held_out` False draws from the training compositions, True from the others, None from all.
    `reserved` lets in the reserved subjects and styles, which no shipped text-to-video model sees.
    """
    subjects = ATTRIBUTES["subject"] if reserved else SUBJECTS
    while True:
        subject = str(rng.choice(subjects))
        scene = Scene(
            subject=subject,
            colour=str(rng.choice(COLOURS)),
            motion=str(rng.choice(LEGAL_MOTIONS[subject])),
            background=str(rng.choice(legal_backgrounds(subject))),
            style=str(
                rng.choice(RESERVED_STYLES)
                if reserved and rng.random() < RESERVED_STYLE_SHARE
                else rng.choice(STYLES, p=STYLE_SHARES)
            ),
            seed=int(rng.integers(2**31)),
        )
        if held_out is None or is_held_out(scene) == held_out:
            return scene
