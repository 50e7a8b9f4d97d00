"""Which errors of JAX tell that another process of a collective is gone."""

TORN = ("closed by peer", "reset by peer", "broken pipe", "remote process exited", "timed out")


def is_torn(message: str) -> bool:
    """Whether an error of JAX's is about a collective whose other end is gone.

    >>> is_torn("INTERNAL: Gloo all-reduce failed: Read error [::1]:1: Connection reset by peer")
    True
    >>> is_torn("RESOURCE_EXHAUSTED: Out of memory")
    False
    """
    message = message.lower()
    return ("gloo" in message or "nccl" in message) and any(text in message for text in TORN)
