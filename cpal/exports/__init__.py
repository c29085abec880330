"""Exports label maps to annotation tools, and reads corrected masks: one module for each format, see `dispatch`."""
