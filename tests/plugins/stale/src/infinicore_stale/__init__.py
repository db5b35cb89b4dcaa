# The plug-in record of infinicore-stale.
# See pyproject.toml for what this plug-in is to show.
"""A backend built with ABI 1.0."""

from infinicore.discovery import Plugin

plugin = Plugin("stale", "Stale", "infinicore_stale._backend")
