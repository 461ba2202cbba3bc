"""Side-by-side timings: attn_lib's layers beside timm's, in one run and in turn."""
