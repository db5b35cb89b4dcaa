# The plug-in record of the plug-in with three faults.
# Plain Python, like every record.
"""The infinicore backend for Faulty devices."""

from infinicore.discovery import Plugin

plugin = Plugin("faulty", "Faulty", "infinicore_faulty._backend")
