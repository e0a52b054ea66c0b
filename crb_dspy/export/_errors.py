"""DSPy's errors by their names, for exported scripts, which have no DSPy; and LiteLLM's as these.

What a script has of `models/` tells errors apart by them.
"""

from __future__ import annotations


class ProviderError(Exception):
    """A call that failed: what was said, and the HTTP status, None without one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.message, self.status = message, status


class AuthError(ProviderError):
    """The key is refused."""


class ContextLengthError(ProviderError):
    """The prompt is too long."""


class InvalidRequestError(ProviderError):
    """What is asked, or its form, is refused."""


class RateLimitError(ProviderError):
    """Asked too often, or too soon."""


class ServerError(ProviderError):
    """The server failed, or sent what is no reply."""


class TransportError(ProviderError):
    """The server was not reached."""


class UnsupportedFeatureError(ProviderError):
    """LiteLLM knows that the model does not take a parameter."""


class UnsupportedModelError(ProviderError):
    """There is no such model."""


_KINDS = {
    401: AuthError,
    403: AuthError,
    404: UnsupportedModelError,
    408: TransportError,
    429: RateLimitError,
}


def own_error(error: Exception) -> ProviderError:
    """Return an error of LiteLLM, or of OpenAI's client, as one of these."""
    if isinstance(error, ProviderError):
        return error
    status, said = getattr(error, "status_code", None), str(getattr(error, "message", "") or error)
    if not isinstance(status, int) or type(error).__name__ == "APIConnectionError":
        return TransportError(said)
    usual = InvalidRequestError if 400 <= status < 500 else ServerError
    return _KINDS.get(status, usual)(said, status=status)
