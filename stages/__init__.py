"""The stages of the pipeline; each is a command: python -m stages.<name> --help."""
