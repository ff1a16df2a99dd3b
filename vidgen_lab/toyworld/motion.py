"""Where a subject is, how large and how turned, at every moment of a clip.

Lengths are in units of the frame height: a 3:2 frame spans x in [0, 1.5] and y in [0, 1], y down.
"""

from dataclasses import dataclass

import numpy as np

from vidgen_lab.toyworld.world import Scene

GROUNDED = {"car", "dog", "rose", "lighthouse", "coffee", "robot", "mushroom"}
NOSE_UP = {"rocket"}  # turns its nose into the direction of travel
FACING_RIGHT = {"car", "dog", "fish", "hummingbird", "robot"}  # mirrored when travelling left


@dataclass(frozen=True)
class Pose:
    """Pose of the subject in one frame: centre and radius in frame heights, angle clockwise in
    radians, the clip's time as phase (0 at the first frame, 1 at the last)."""

    x: float
    y: float
    radius: float
    angle: float = 0.0
    mirrored: bool = False
    phase: float = 0.0


def poses(scene: Scene, num_frames: int, aspect: float, rng: np.random.Generator) -> list[Pose]:
    """One pose per frame of width / height `aspect`; the motion spans them all, and `rng` supplies
    the small variations between scenes of one kind."""
    radius = rng.uniform(0.23, 0.26)
    middle = aspect / 2 + rng.uniform(-0.05, 0.05)
    level = (0.66 if scene.subject in GROUNDED else 0.5) + rng.uniform(-0.03, 0.03)
    if scene.subject == "aurora":
        middle, level, radius = aspect / 2, 0.3 + rng.uniform(-0.03, 0.03), 0.25
    times = np.linspace(0, 1, num_frames)
    return [_pose(scene, t, middle, level, radius, aspect) for t in times]


def _pose(scene: Scene, t: float, x: float, y: float, radius: float, aspect: float) -> Pose:
    angle, mirrored = 0.0, False
    swing = 2 * t - 1  # -1 at the first frame, +1 at the last
    match scene.motion:
        case "left" | "right":
            direction = 1 if scene.motion == "right" else -1
            x = aspect / 2 + direction * swing * 0.30 * aspect
            mirrored = direction < 0 and scene.subject in FACING_RIGHT
            if scene.subject in NOSE_UP:
                angle = direction * np.pi / 2
        case "up" | "down":
            direction = 1 if scene.motion == "down" else -1
            y = 0.5 + direction * swing * 0.27
            if scene.subject in NOSE_UP and direction > 0:
                angle = np.pi
        case "bouncing":
            y = 0.68 - 0.32 * abs(np.sin(1.5 * np.pi * t))
        case "spinning":
            angle = np.pi * t
        case "growing":
            radius *= 0.6 + 0.75 * t
        case "orbiting":
            x += 0.28 * np.cos(1.5 * np.pi * t)
            y = 0.5 + 0.2 * np.sin(1.5 * np.pi * t)
        case "in_place":
            if scene.subject in {"rose", "butterfly", "hummingbird", "mushroom"}:
                angle = 0.12 * np.sin(2 * np.pi * t)
                y += 0.03 * np.sin(2 * np.pi * t)
    return Pose(float(x), float(y), float(radius), float(angle), mirrored, float(t))
