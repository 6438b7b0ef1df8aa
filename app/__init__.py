"""Thin: settings read, parts built, operations called, results printed or served.

May import everything. ``build`` puts parts together and ``settings`` alone reads profiles and the
environment; ``commands`` and ``service`` stand on top and hold no work of their own.
Read first: ``build.py`` and ``settings.py``.
"""
