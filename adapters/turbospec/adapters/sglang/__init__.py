"""The adapter for SGLang: hooks by which a TurboSpec controller sets speculation lengths.

`plugin.register` is what the entry point `sglang.srt.plugins` names. The modules `methods`, `refusal` and
`compat` do not import SGLang, so the command line can read them anywhere.
"""
