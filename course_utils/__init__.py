"""Helpers that the chapters of the book Tensors to Detectors import.

For all chapters: :mod:`runtime` (device, seeds, set-up), :mod:`compare` (ours against
the library's), :mod:`checks` (the exercises check themselves), :mod:`viz` (figures),
:mod:`workers` (classes of a notebook in other processes), :mod:`colab` and
:mod:`weights` (what a machine must have), :mod:`files` and :mod:`images` (read and
written whole).

By topic: :mod:`datasets` (pedestrians, stored results), :mod:`formats` (VOC, COCO and
YOLO, read and written), :mod:`detection` (boxes, metrics, errors, targets, models,
augmentation), :mod:`classification` (the small classifier, trained),
:mod:`training` (loops, checkpoints, several processes).
Importing the package, or any module of it, has no side effects.
"""

__version__ = "0.1.0"
