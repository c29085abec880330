"""The one exception for what a user can put right: settings, data, disk."""


class UserError(ValueError):
    """What is wrong, where, and the cure. Stages print it without a traceback and exit with code 2."""

    def __init__(self, message: str) -> None:
        # A DataLoader raises a worker's error again with its printed traceback for a message: keep what it said.
        super().__init__(message.rpartition(f"{UserError.__module__}.UserError: ")[2].strip())
