"""A page of an answer with its scripts running: a widget, whose state no notebook saves."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets


class LivePage(anywidget.AnyWidget):
    """One page in a frame of an origin of its own."""

    _esm = """
    const WARNING = "Its scripts run, in a frame that sees nothing of the notebook; but the page " +
      "can reach the network. Only the static preview is saved.";
    const STYLE = "width:100%;height:32em;box-sizing:border-box;background:#fff;" +
      "color-scheme:light;border:1px solid var(--jp-warn-color0,#e08600)";
    function render({ model, el }) {
      const said = document.createElement("div");
      said.textContent = WARNING;
      said.style.cssText = "font-size:.85em;color:var(--jp-ui-font-color2,#767676)";
      const frame = document.createElement("iframe");
      frame.sandbox = "allow-scripts";
      frame.title = "Live page";
      frame.style.cssText = STYLE;
      frame.srcdoc = model.get("page");
      el.append(said, frame);
    }
    export default { render };
    """
    page = traitlets.Unicode().tag(sync=True)


def bundle(widget: anywidget.AnyWidget, name: str) -> dict[str, Any]:
    """Return the output that shows a widget, and its name where there are no widgets."""
    shown: Any = widget._repr_mimebundle_()
    data: dict[str, Any] = shown[0] if isinstance(shown, tuple) else shown
    return {**data, "text/plain": name}
