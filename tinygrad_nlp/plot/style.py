"""The look of all pictures: fonts that know Hangul, colours for every eye, files for print."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib as mpl
from cycler import cycler
from matplotlib import font_manager
from matplotlib.figure import Figure

from ..files import replace_file

# The palette of Okabe and Ito, told apart with every common kind of colour blindness and in print
# (jfly.uni-koeln.de/color), without its black, and with its yellow, weak on white, at the end.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442")

# Fonts with Hangul that come with, or are commonly installed on, Linux, macOS and Windows.
_HANGUL_FONTS = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Malgun Gothic",
    "UnDotum",
    "Baekmuk Dotum",
    # Its faces lie in one file, which matplotlib knows by the first of them.
    "Noto Sans CJK JP",
)


@cache
def font_families() -> list[str]:
    """The fonts of the labels: matplotlib's own, then the first installed one that knows Hangul.

    Matplotlib takes each letter from the first font of the list that has it. Only installed fonts are listed, so it has
    none to miss. Where none of them knows Hangul, matplotlib warns as it draws a label in Hangul; installing Noto Sans
    CJK or NanumGothic mends it.

    Returns:
        One or two names of font families.
    """
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *[font for font in _HANGUL_FONTS if font in installed][:1]]


@contextmanager
def style() -> Iterator[None]:
    """Draw in the look of this library inside a `with` block; outside, matplotlib's settings are untouched.

    Letters have 8 to 10 points, lines 1.5, and frames 0.6; a bitmap has 200 dots per inch.

    Example:
        >>> from matplotlib.figure import Figure
        >>> with style():
        ...     axes = Figure().add_subplot(xlabel="step", ylabel="loss")
        >>> axes.spines["top"].get_visible()
        False
    """
    with mpl.rc_context(
        {
            "font.family": font_families(),
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "legend.edgecolor": "none",  # no frame, but no lines of the grid through the letters
            "legend.framealpha": 1.0,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E6E6E6",
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.5,
            "axes.prop_cycle": cycler(color=PALETTE),
            "figure.constrained_layout.use": True,
            "figure.constrained_layout.h_pad": 0.07,
            "savefig.dpi": 200,
            "pdf.fonttype": 42,  # TrueType: letters stay letters, and journals accept the file
        }
    ):
        yield


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure to a file, whose suffix says how; missing folders are made.

    Args:
        figure: a figure of this library, or any other of matplotlib.
        path: of the file, ending in `.png` (200 dots per inch), `.svg` or `.pdf`; an old one is replaced.

    Returns:
        The path.

    Raises:
        ValueError: the path has another suffix.
        OSError: the file cannot be written; the message names it and the reason.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Figure(), Path(folder) / "empty.svg").name
        'empty.svg'
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"a picture is saved as .png, .svg or .pdf, got {str(path)!r}")
    picture = io.BytesIO()
    with style():
        figure.savefig(picture, format=path.suffix[1:].lower())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, picture.getvalue())
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"the picture {path} cannot be written ({reason}); choose another folder") from error
    return path
