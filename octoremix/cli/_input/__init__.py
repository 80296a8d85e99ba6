"""The input of a batch: which remixes are to be bought, read and checked before anything is."""

from .records import Line
from .source import read_input, read_stream
from .trouble import InputError

__all__ = ["InputError", "Line", "read_input", "read_stream"]
