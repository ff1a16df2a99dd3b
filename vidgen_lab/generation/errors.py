"""What can go wrong with a generation; each message names the cause and the next step."""


class RequestError(ValueError):
    """The request cannot be met by the model: sizes, frame count, prompt, numbers."""


class DownloadError(OSError):
    """The weights are not on this machine and could not be fetched."""


class NonFiniteError(RuntimeError):
    """The model produced NaN or infinity."""


class GenerationCancelled(Exception):
    """The user stopped the generation. Nothing was written."""


class OutputError(OSError):
    """The clip or its recipe cannot be written there. Nothing half-written is left."""
