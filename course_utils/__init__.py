"""Helpers of the book Tensors to Detectors.

Modules by topic. For all chapters: :mod:`runtime` (device, seeds, set-up),
:mod:`compare` (ours against the library's), :mod:`checks` (the exercises check
themselves), :mod:`viz` and :mod:`viz_detection` (figures), :mod:`workers` (classes of
a notebook in other processes). Data: :mod:`files` (written whole), :mod:`images` (files
to pixels), :mod:`datasets` (pedestrians), :mod:`scenes` and :mod:`shapes` (drawn
pictures), :mod:`formats` (VOC, COCO and YOLO, read and written), :mod:`annotations` and
:mod:`targets` (the dictionaries of detection, checked). Detection: :mod:`boxes`,
:mod:`metrics` (the numbers of COCO), :mod:`detection_errors`, :mod:`models`,
:mod:`weights`, :mod:`pretrain`. Training: :mod:`engine`, :mod:`checkpoints`,
:mod:`distributed`, :mod:`finetune`, and what chapter 27 stores: :mod:`experiments` and
:mod:`stored_run`.
Importing the package, or any module of it, has no side effects.
"""

__version__ = "0.1.0"
