"""Label maps out to annotation tools, and corrected ones back: one module for each format, see `dispatch`."""
