"""Ask Rekognition for the labels of a picture, and say what an error means for whoever asked.

refused     it says no, and nothing was paid     this picture's fault: set it aside
throttled   too fast for it; nothing was paid    ask again, later
away        nobody can be asked now              ask again, later; nothing was paid
lost        the answer did not come              it may have been paid: do not ask by oneself
"""

from typing import Any, Literal

from pipeline.aws import FIRST_LOOK_TRIES, WORK_TRIES, AwsSettings, client, explain
from pipeline.errors import FootfallError

Kind = Literal["refused", "throttled", "away", "lost"]
_OF_THE_PICTURE = (
    "InvalidImageFormatException",
    "ImageTooLargeException",
    "InvalidParameterException",
    "ValidationException",
)
_THROTTLED = (
    "ThrottlingException",
    "ProvisionedThroughputExceededException",
    "TooManyRequestsException",
    "LimitExceededException",
    "RequestLimitExceeded",
)
# Errors of botocore by which no request has reached a server.
_NEVER_SENT = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ProxyConnectionError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "SSLError",
)


class LabelsError(FootfallError):
    """Labels could not be had; `kind` says what that means."""

    def __init__(self, message: str, *, kind: Kind = "refused") -> None:
        super().__init__(message)
        self.kind = kind


class Rekognition:
    """Rekognition, as one account in one region may ask it; threads may share it."""

    def __init__(self, settings: AwsSettings) -> None:
        """Find out whom to ask, and ask nothing yet.

        Raises:
            ConfigError: There is no such profile, or no region.
        """
        self._patient = client("rekognition", settings, WORK_TRIES)
        self._impatient = client("rekognition", settings, FIRST_LOOK_TRIES)
        self._answers = False

    def detect_labels(self, jpeg: bytes) -> dict[str, Any]:
        """Return the answer to DetectLabels.

        What passes is waited out, once it is known that somebody answers.

        Raises:
            LabelsError: There is none.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        asked = self._patient if self._answers else self._impatient
        try:
            answer: dict[str, Any] = asked.detect_labels(Image={"Bytes": jpeg})
        except (BotoCoreError, ClientError) as error:
            kind = kind_of(error)
            self._answers = kind not in ("away", "lost")
            raise LabelsError(f"Rekognition: {explain(error)}", kind=kind) from error
        self._answers = True
        return answer


def kind_of(error: Exception) -> Kind:
    """Return what an error of boto3 means for whoever asked."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    if code in _THROTTLED:
        return "throttled"
    if code in _OF_THE_PICTURE:
        return "refused"
    if response or type(error).__name__ in _NEVER_SENT:
        return "away"
    return "lost"
