"""Ask Rekognition for the labels of a picture, and say what an error means for whoever asked.

refused     it says no, and nothing was paid     this picture's fault: set it aside
throttled   too fast for it; nothing was paid    ask again, ever later
away        nobody can be asked now              ask again, later; nothing was paid
lost        the answer did not come              it may have been paid: do not ask by oneself

Each call is one request: what botocore repeats by itself may have been paid for already.
"""

import http
from typing import Any, Literal

from pipeline.aws import ONE_TRY, AwsSettings, client, explain
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
# It had taken the picture.
_FAILED_AT_WORK = ("InternalServerError", "InternalFailure")
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
        self._client = client("rekognition", settings, ONE_TRY)

    def detect_labels(self, jpeg: bytes) -> dict[str, Any]:
        """Return the answer to DetectLabels, after one request.

        Raises:
            LabelsError: There is none.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = self._client.detect_labels(Image={"Bytes": jpeg})
        except (BotoCoreError, ClientError) as error:
            raise LabelsError(f"Rekognition: {explain(error)}", kind=kind_of(error)) from None
        return answer


def kind_of(error: Exception) -> Kind:
    """Return what an error of boto3 means for whoever asked."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    if code in _THROTTLED:
        return "throttled"
    if code in _OF_THE_PICTURE:
        return "refused"
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        return "away"
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or code in _FAILED_AT_WORK:
        return "lost"
    if response or type(error).__name__ in _NEVER_SENT:
        return "away"
    return "lost"
