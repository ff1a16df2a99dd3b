"""What every panel of controls has."""

import html
from typing import Any

LABEL = {"description_width": "110px"}
WIDE, HALF = "640px", "318px"


class Panel:
    """Shows `box` in a notebook, and `summary()` wherever widgets cannot be shown."""

    box: Any

    def summary(self) -> str:
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": f"<em>{html.escape(self.summary())}</em>",
            "text/plain": self.summary(),
        }
