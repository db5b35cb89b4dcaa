# What stands where the plug-in's extension module should: it raises while it is imported.
# Real ones do, when a library of theirs does in its initialisation.
"""Raise."""

raise RuntimeError("the Broken SDK could not initialise: error 17")
