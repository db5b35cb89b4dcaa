# The plug-in record of infinicore-mismatch.
# See pyproject.toml for what this plug-in is to show.
"""A backend with a kernel for another signature."""

from infinicore.discovery import Plugin

plugin = Plugin("mismatch", "Mismatch", "infinicore_mismatch._backend")
