"""What SGLang leaves out on CPUs although it works there."""
