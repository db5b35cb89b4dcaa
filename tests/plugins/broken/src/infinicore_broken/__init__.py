# The plug-in record of infinicore-broken.
# See pyproject.toml for what this plug-in is to show.
"""A backend that raises while it is loaded."""

from infinicore.discovery import Plugin

plugin = Plugin("broken", "Broken", "infinicore_broken._backend")
