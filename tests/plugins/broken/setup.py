# Plain Python: there is nothing to compile in a plug-in that does not get that far.
# The entry point and the package are all that infinicore sees of it.
"""Build the plug-in broken."""

from setuptools import setup

setup(package_dir={"": "src"}, packages=["infinicore_broken"])
