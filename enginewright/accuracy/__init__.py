"""Accuracy of engines: a module for each task, figures an image, paired statistics, the gate, tables."""
