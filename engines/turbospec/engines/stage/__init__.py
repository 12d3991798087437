"""What the demonstration and the benchmarks run on: a controller and vLLM engines with made models, here."""
