"""Readers of image-level labels. They return rows (image, classes, split) and how the file was understood."""
