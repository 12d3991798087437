"""Stands in for IPython, of which SGLang imports two names for notebooks; the real one brings ten packages."""
