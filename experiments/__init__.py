"""How everything in ``data/`` was made; each part is one command, ``python -m ...``.

:mod:`experiments.scenes` draws the street scenes, :mod:`experiments.shapes` drawn
objects, :mod:`experiments.pretrain` trains the small detector on them;
:mod:`experiments.starts` and :mod:`experiments.stored_run` make the results of
chapter 27, :mod:`experiments.floors` asserts them. :mod:`experiments.objects` draws the
pictures to classify, :mod:`experiments.classify` measures how hard they are.
"""
