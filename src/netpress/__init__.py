"""netpress: press a neural network until it fits, and know what it cost."""

from netpress._version import __version__

__all__ = ["__version__"]
