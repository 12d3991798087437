"""The adapter for vLLM: a scheduler that lets a TurboSpec controller set speculation lengths.

`scheduler.TurboSpecScheduler` is what `--scheduler-cls` names. The modules `methods` and `compat` do not
import vLLM, so the command line can read them anywhere.
"""
