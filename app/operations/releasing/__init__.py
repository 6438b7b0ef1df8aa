"""Versions handed to others: as folders, as GGUF for llama.cpp and Ollama, or to a model hub.

May import what ``operations`` may.
Read first: ``exporting.py`` and ``publishing.py``.
"""
