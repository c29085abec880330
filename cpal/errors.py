"""The one exception for what a user can put right: settings, data, disk."""


class UserError(ValueError):
    """What is wrong, where, and the cure. Stages print it without a traceback and exit with code 2."""
