"""One suite for every engine: what must hold of an adapter, whatever it is in.

`subject` is what a new engine implements for it, `controller` the controller that writes everything down,
`course` what an engine is put through, and `rules` what must be true of it afterwards.
"""
