"""Pictures of layouts, geometries and constraint graphs, as SVG and HTML text, with nothing but the standard library and numpy.

`svg` and `html` draw a layout, `geometry_svg` the legal starts of one geometry, `graph_svg` a constraint graph. The same
input gives the same bytes. This package must not know plans or solvers: what a plan has to say comes in as facts and notes.
"""

from partitioner.drawing.cards import Context
from partitioner.drawing.graph import graph_svg
from partitioner.drawing.page import html
from partitioner.drawing.picture import svg
from partitioner.drawing.starts import geometry_svg

__all__ = ["Context", "geometry_svg", "graph_svg", "html", "svg"]
