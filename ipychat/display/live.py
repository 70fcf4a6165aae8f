"""A page of an answer with its scripts running: a widget, whose state no notebook saves."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

WARNING = (
    "Its scripts run, in a frame that sees nothing of the notebook; but the page can reach the "
    "network. Only the static preview is saved."
)
STYLE = (
    "width:100%;height:32em;box-sizing:border-box;background:#fff;color-scheme:light;"
    "border:1px solid var(--jp-warn-color0,#e08600)"
)


class LivePage(anywidget.AnyWidget):
    """One page in a frame of an origin of its own."""

    _esm = """
    function render({ model, el }) {
      const said = document.createElement("div");
      said.textContent = model.get("warning");
      said.style.cssText = "font-size:.85em;color:var(--jp-ui-font-color2,#767676)";
      const frame = document.createElement("iframe");
      frame.sandbox = "allow-scripts";
      frame.title = "Live page";
      frame.style.cssText = model.get("style");
      frame.srcdoc = model.get("page");
      el.append(said, frame);
    }
    export default { render };
    """
    page = traitlets.Unicode().tag(sync=True)
    warning = traitlets.Unicode(WARNING).tag(sync=True)
    style = traitlets.Unicode(STYLE).tag(sync=True)


def bundle(page: str) -> dict[str, Any]:
    """Return what shows `page` live."""
    shown: Any = LivePage(page=page)._repr_mimebundle_()
    data: dict[str, Any] = shown[0] if isinstance(shown, tuple) else shown
    return {**data, "text/plain": "(a live page)"}
