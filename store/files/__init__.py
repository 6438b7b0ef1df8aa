"""How things lie on a disk or in a bucket: layout, atomic writes, places, leases.

May import the values of ``store`` (``types``, ``errors``) and nothing else.
Read first: ``layout.py`` and ``atomic.py``.
"""
