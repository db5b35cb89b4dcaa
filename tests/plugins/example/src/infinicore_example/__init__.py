# The plug-in record: what infinicore reads on first use of the device, before it loads anything native.
# Plain Python, imports nothing of the vendor's.
"""The infinicore backend for Example devices."""

from infinicore.discovery import Plugin

plugin = Plugin("example", "Example", "infinicore_example._backend", hint="nothing can be missing here")
