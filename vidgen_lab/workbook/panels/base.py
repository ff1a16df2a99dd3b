"""What every panel of controls has."""

import html
from typing import Any

import ipywidgets as w

LABEL = {"description_width": "110px"}
WIDE, HALF = "640px", "318px"


def control(kind: Any, label: str, width: str = HALF, **options: Any) -> Any:
    """A control of ipywidgets with its label, as wide as half a row, or as another width."""
    return kind(description=label, style=LABEL, layout=w.Layout(width=width), **options)


class Panel:
    """Shows its `box` in a notebook, and its `summary()` wherever widgets cannot be shown."""

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": f"<em>{html.escape(self.summary())}</em>",
            "text/plain": self.summary(),
        }
