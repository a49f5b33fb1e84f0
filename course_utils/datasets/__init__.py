"""Data sets of the book: the bundled street scenes and the real Penn-Fudan.

:class:`PennFudan` reads both, for they have one layout. :func:`pedestrians` is the
folder that the chapters use. The real data set is downloaded, once, by
``python -m course_utils.datasets.penn_fudan``.
"""

__all__ = ["PennFudan", "pedestrians"]


def __getattr__(name: str):
    """Import on first use: otherwise ``python -m`` would import the module twice."""
    if name in __all__:
        from course_utils.datasets import penn_fudan

        return getattr(penn_fudan, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
