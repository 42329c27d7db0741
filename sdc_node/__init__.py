"""The product: everything that leaves a hospital node, and everything that runs it."""

__version__ = "0.1.0"
