"""Compute what the meta-distribution pulls in: core, and each vendor's plug-in as an extra.

The pins come from the one VERSION. A wheel X.Y.z accepts every X.Y: plug-ins and core are released
together and may differ in the last number.
"""

from pathlib import Path

from setuptools import setup

VENDORS = ("cuda", "ascend", "bang", "kunlun", "metax", "moore", "iluvatar", "hygon", "qy")

major, minor = (Path(__file__).parent / "VERSION").read_text().strip().split(".")[:2]
pin = f"~= {major}.{minor}.0"

extras = {vendor: [f"infinicore-{vendor} {pin}"] for vendor in VENDORS}
extras["lm"] = [f"infinilm {pin}"]
extras["all"] = [requirement for requirements in extras.values() for requirement in requirements]

setup(install_requires=[f"infinicore-core {pin}"], extras_require=extras)
