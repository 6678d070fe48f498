"""Accuracy of engines: figures an image, paired statistics, the gate, tables."""
