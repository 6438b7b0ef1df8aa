"""The shared storage: values, files and tables that the pipelines hand each other.

May import nothing above it: no model library, no web framework. Its wings stand on one another
in this order: ``types``, ``errors``, ``progress``, ``moments``, ``page_starts``; ``contracts``,
``files``, ``proof`` and ``delimited``; ``versioned`` and ``lance``; ``features`` and ``logs``;
``store``; ``upkeep``.
Read first: ``types.py`` and ``store.py``.
"""
