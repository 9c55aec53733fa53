"""What a run reports when it did not show what it should."""


class Failure(Exception):
    """One sentence for the reader; logs of the processes are added by who catches it."""
