"""The tiny network and its scales, for every test in this folder."""

from support.calibrated import cache, network, network_file

__all__ = ["cache", "network", "network_file"]
