"""Detectors of the user's own: their files, and labelled scenes for them (docs/detection.md)."""
