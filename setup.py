"""The packages of the wheel: those found in enginewright/, and three that lie elsewhere here (docs/decisions/0030)."""

from setuptools import find_packages, setup

ELSEWHERE = ["enginewright.conf", "enginewright.stages", "enginewright.project"]  # [tool.setuptools.package-dir]

setup(packages=[*find_packages(include=["enginewright*"]), *ELSEWHERE])
