# The plug-in record of infinicore-next.
# See pyproject.toml for what this plug-in is to show.
"""A backend built with ABI 2.0."""

from infinicore.discovery import Plugin

plugin = Plugin("next", "Next", "infinicore_next._backend")
