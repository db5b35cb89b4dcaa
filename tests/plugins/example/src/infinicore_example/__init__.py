# The plug-in record: what infinicore reads on first use of the device, before it loads anything native.
# Plain Python, imports nothing of the vendor's.
"""An infinicore backend to learn from."""

from infinicore.discovery import Plugin

plugin = Plugin("example", "Example", "infinicore_example._backend", hint="nothing can be missing here")
