"""The one error that is the user's to mend: the command line prints it as one line and exits with code 2."""


class UserError(Exception):
    """Bad input. The message names the file or value and the remedy; anything else that is raised is a bug of ours."""
