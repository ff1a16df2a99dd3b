"""Video generation, built and measured: the blocks behind the chapters in ``notebooks/``.

Importing this package loads no heavy library; each block loads what it needs when it is used.
"""

__version__ = "0.1.0"
