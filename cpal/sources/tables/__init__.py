"""Readers of image-level labels: a file in, rows (image, class names, split) and a sentence on how it was read out."""
