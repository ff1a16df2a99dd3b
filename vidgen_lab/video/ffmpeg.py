"""Run the ffmpeg program: found in one way, never through a shell, never left behind."""

import re
import subprocess
from functools import lru_cache


class FfmpegError(RuntimeError):
    """ffmpeg said no, or took too long; the message has its first and last words."""


def run_ffmpeg(*arguments: object, limit: float = 600.0) -> bytes:
    """Run ffmpeg (IMAGEIO_FFMPEG_EXE, the bundled one, or the system's); returns what it wrote to
    standard output.

    Existing outputs are overwritten, so name a temporary file. Exit code 0 is not a verdict: ffmpeg
    writes empty and shortened files with a smile.

    Args:
        arguments: those of the command line, as text or anything that `str` makes text of.
        limit: seconds, after which it is killed.

    Raises:
        FfmpegError: it failed, or was killed.
    """
    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()
    command = [program, "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise FfmpegError(f"ffmpeg took longer than {limit:g} s and was stopped") from None
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        words[2:-1] = []  # the cause comes first, the verdict last, and much between
        # Addresses in memory would make every message another one.
        text = re.sub(r" @ 0x[0-9a-f]+", "", "; ".join(words))
        if done.returncode < 0 and not text:  # as 7.0 of imageio-ffmpeg 0.6 does on any .ts
            text = "it crashed; a newer one may not: pip install -U imageio-ffmpeg"
        raise FfmpegError(f"ffmpeg failed ({done.returncode}): {text or 'no message'}")
    return done.stdout


@lru_cache(maxsize=1)
def encoders() -> frozenset[str]:
    """Names of the encoders that this ffmpeg was built with; some of them may want hardware."""
    lines = run_ffmpeg("-encoders").decode("utf-8", "replace").splitlines()
    return frozenset(w[1] for line in lines if len(w := line.split()) > 2 and w[0][0] in "VA")


def local(path: object) -> str:
    """A file name as ffmpeg takes it literally: no protocol, no option, no number pattern."""
    return f"file:{path}"
