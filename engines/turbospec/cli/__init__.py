"""The command line, `turbospec`: one module per verb."""
