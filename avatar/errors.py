"""The one error a user can cause."""


class UserError(ValueError):
    """Bad input. The message is one line: the file or option, what is wrong, what to do.

    The command line prints it without a traceback and exits with code 2.
    """
