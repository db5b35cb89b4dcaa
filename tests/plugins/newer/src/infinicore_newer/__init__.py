# The plug-in record of infinicore-newer.
# See pyproject.toml for what this plug-in is to show.
"""A backend built with ABI 1.99."""

from infinicore.discovery import Plugin

plugin = Plugin("newer", "Newer", "infinicore_newer._backend")
