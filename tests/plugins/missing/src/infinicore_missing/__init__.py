# The plug-in record of infinicore-missing.
# See pyproject.toml for what this plug-in is to show.
"""A backend whose driver library is absent."""

from infinicore.discovery import Plugin

plugin = Plugin(
    "missing", "Missing", "infinicore_missing._backend", hint="install the Missing driver 4.2 or newer"
)
