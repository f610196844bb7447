"""Equations as MathML, which browsers draw by themselves: no script and no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

_TAG = re.compile(r"\\tag\{(.*?)\}")


def visit_math(self: Any, node: nodes.math) -> None:
    """Write an equation in a line of text."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_displaymath(self: Any, node: nodes.math_block) -> None:
    r"""Write an equation in a line of its own, with its \tag at the margin if it has one."""
    tag = _TAG.search(node.astext())
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(tex2mathml(_TAG.sub("", node.astext()), as_block=True))
    if tag:
        self.body.append(f'<span class="eqno">({tag[1]})</span>')
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
