"""One way to say what was expected and what came: every wrong input of the chapter fails through
here. `what` is always the name that the message gives to the thing checked.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class LatteInputError(ValueError):
    """An input the model cannot take; the message names what was expected and what was given."""


def require(condition: bool, what: str, expected: object, given: object, hint: str = "") -> None:
    """Raise LatteInputError "what: expected E, given G. hint" unless the condition holds."""
    if not condition:
        raise LatteInputError(
            f"{what}: expected {expected}, given {given}.{' ' + hint if hint else ''}"
        )


def require_one_of(value: object, known: Iterable, what: str, hint: str = "") -> None:
    """Raise LatteInputError that names all of `known` unless `value` is one of them."""
    known = tuple(known)
    *others, last = map(repr, known)
    expected = f"{', '.join(others)} or {last}" if others else last
    require(value in known, what, expected, repr(value), hint)


def require_folder(folder: str | Path, what: str, part: str = "") -> Path:
    """A folder on this machine, or the `part` of a pipeline in it, if there is one: a hub id is
    never fetched unasked."""
    require(
        Path(folder).is_dir(),
        what,
        "an existing folder",
        repr(str(folder)),
        "A hub model is fetched first: huggingface_hub.snapshot_download(name) returns its folder.",
    )
    inside = Path(folder) / part
    return inside if inside.is_dir() else Path(folder)


def load_part(kind: type, folder: str | Path, part: str, what: str) -> Any:
    """A model of a diffusers class, from its own folder or that of a pipeline with `part` in it."""
    folder = require_folder(folder, f"folder of {what}", part)
    found = kind.load_config(folder, local_files_only=True).get("_class_name", kind.__name__)
    require(found == kind.__name__, f"model in {folder}", f"{kind.__name__} ({what})", found)
    return kind.from_pretrained(folder, use_safetensors=True, local_files_only=True)


def require_rank(x: Tensor, names: str, what: str) -> None:
    """Check the number of axes; `names` spells them, as in "B C T H W"."""
    axes = names.split()
    require(
        x.ndim == len(axes),
        what,
        f"{len(axes)} axes [{', '.join(axes)}]",
        f"{x.ndim} axes {list(x.shape)}",
    )


def require_multiple(size: tuple[int, int], step: int, what: str, name: str = "") -> None:
    """Height and width must be multiples of `step`, whose name may be said ("the patch size")."""
    height, width = size
    require(
        min(size) > 0 and height % step == width % step == 0,
        f"height and width of the {what}",
        f"multiples of {name}{' ' * bool(name)}{step}",
        f"{height}x{width}",
        f"Crop or pad to {max(1, height // step) * step}x{max(1, width // step) * step}.",
    )


def require_finite(x: Tensor, what: str, training: bool = False) -> None:
    """Refuse NaN and infinity.

    On an accelerator the answer costs a stop of the command queue, so a model in training skips the
    question there: the training loop looks at its loss anyway.
    """
    unasked = x.device.type == "meta" or (training and x.device.type != "cpu")
    if not torch.compiler.is_compiling() and not unasked:
        bad = int((~torch.isfinite(x)).sum())
        require(bad == 0, what, "finite values", f"{bad} of {x.numel()} NaN or infinite")


def check_labels(labels: Tensor, batch: torch.Size, classes: int) -> None:
    """Labels must be [B] = `batch` numbers 0 .. classes, the last meaning none. On CPUs only they
    are looked at one by one, as a mask is; `require_finite` says why."""
    require(labels.shape == batch, "class labels", list(batch), list(labels.shape))
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = int(labels.min()), int(labels.max())
        expected = f"0 .. {classes - 1}, or {classes} for none"
        require(low >= 0 and high <= classes, "class labels", expected, f"{low} .. {high}")


def require_mask(mask: Tensor, text: Tensor) -> None:
    """The mask of text [B, L, D] must be [B, L] bool."""
    require(
        mask.shape == text.shape[:2] and mask.dtype == torch.bool,
        "text mask",
        f"{torch.bool} [B, L] = {list(text.shape[:2])}, True where a token is real",
        f"{mask.dtype} {list(mask.shape)}",
    )


def check_text(text: Tensor, text_mask: Tensor | None, batch: int, width: int) -> None:
    """Text must be [batch, L, width], text_mask [batch, L] bool with a True in every row."""
    require_rank(text, "B L D", "text embeddings")
    require(
        text.shape[0] == batch and text.shape[2] == width,
        "text embeddings",
        f"[{batch}, L, {width}]",
        list(text.shape),
    )
    if text_mask is None:
        return
    require_mask(text_mask, text)
    if text_mask.device.type == "cpu" and not torch.compiler.is_compiling():
        require(
            bool(text_mask.any(dim=1).all()),
            "text mask",
            "at least one real token in every row",
            "a row that masks everything",
            "An empty prompt still has its end-of-sequence token.",
        )
