"""The benchmarks of `turbospec bench`, one module or package each."""
