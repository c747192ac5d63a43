"""What loading raises."""


class CheckpointError(ValueError):
    """A checkpoint folder that cannot be used; the message names the file or field and the cure."""
