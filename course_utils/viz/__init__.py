"""The book's figures: one style, pictures, boxes, tensors, graphs and detections.

Everything public is here: ``viz.show_images``, ``viz.draw_boxes``, ``viz.BLUE``.
"""

from course_utils.viz.boxes import draw_boxes
from course_utils.viz.detection import plot_precision_recall, show_detections
from course_utils.viz.pictures import show_images
from course_utils.viz.style import (
    BLUE,
    GREEN,
    GREY,
    GROUND_TRUTH,
    INK,
    ORANGE,
    PALE,
    PREDICTION,
    PURPLE,
    SKY,
    VERMILION,
    blank,
    use_style,
)
from course_utils.viz.tensors import draw_arrow, draw_graph, draw_storage, draw_tensor

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "GROUND_TRUTH",
    "INK",
    "ORANGE",
    "PALE",
    "PREDICTION",
    "PURPLE",
    "SKY",
    "VERMILION",
    "blank",
    "draw_arrow",
    "draw_boxes",
    "draw_graph",
    "draw_storage",
    "draw_tensor",
    "plot_precision_recall",
    "show_detections",
    "show_images",
    "use_style",
]
