"""The packages of the wheel: those found in enginewright/, and three that lie elsewhere here (docs/decisions/0030)."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FILES = "enginewright.project"  # dvc.yaml and the like, from the root of the checkout: no modules
ELSEWHERE = ["enginewright.conf", "enginewright.stages", FILES]  # [tool.setuptools.package-dir]


class BuildPy(build_py):
    """Take no module, this one above all, from the root of the checkout."""

    def find_package_modules(self, package, package_dir):
        """Return (package, module, file) of each module of a package."""
        return [] if package == FILES else super().find_package_modules(package, package_dir)


setup(packages=[*find_packages(include=["enginewright*"]), *ELSEWHERE], cmdclass={"build_py": BuildPy})
