"""Side-by-side timings of attn_lib's layers and networks; ``python -m benchmarks --help``."""
