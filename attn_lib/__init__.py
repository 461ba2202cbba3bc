"""Attention mechanisms of convolutional networks: derived, checked, and ready to import.

``attn_lib.reference`` holds every mechanism in NumPy with its backward pass written out;
``attn_lib.layers`` holds the same mechanisms as PyTorch modules. Neither imports the other.
"""

__version__ = "0.2.0"
