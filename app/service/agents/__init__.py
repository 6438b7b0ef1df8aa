"""Tools for agents, by the Model Context Protocol: search, ask, open a source, list and add.

May import the service's own modules beside it, ``pipelines`` and ``store``; ``service/api.py`` and
the command ``fti mcp`` offer them.
Read first: ``tools.py`` and ``mcp_server.py``.
"""
