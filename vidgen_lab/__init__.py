"""Building blocks of the video generation workbook: import one, or open `notebooks/`."""

__version__ = "0.1.0"
