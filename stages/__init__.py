"""The pipeline's stages, each a command: python -m stages.<name> --help."""
