"""Files: written whole or not at all, where they keep counts, columns of obs and var, saved models.

Importing it is light: no PyTorch.
"""
