"""Helpers of the book Tensors to Detectors.

Modules by topic: :mod:`runtime` (device, seeds, set-up), :mod:`compare` (ours
against the library's), :mod:`checks` (the exercises check themselves),
:mod:`viz` (one figure style, drawings of tensors and memory), :mod:`annotations`
(the dictionaries of detection, checked), :mod:`metrics` (the numbers of COCO),
:mod:`formats` (VOC, COCO and YOLO, read and written).
Importing the package, or any module of it, has no side effects.
"""

__version__ = "0.1.0"
