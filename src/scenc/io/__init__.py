"""Files: written whole or not at all, where they keep counts, saved models.

Importing it is light: no PyTorch.
"""
