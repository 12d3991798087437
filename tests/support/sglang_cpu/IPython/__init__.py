"""Stands in for IPython, of which SGLang imports two names for notebooks; it would bring ten packages."""
