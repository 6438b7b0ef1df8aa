"""How things lie on a disk or in a bucket: layout, atomic writes, records and logs, leases.

May import the values of ``store`` (``types``, ``errors``) and nothing else.
Read first: ``layout.py`` and ``storage.py``.
"""
