"""Settings of a FHIR destination: `[[fhir]]` in node.toml."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class FhirSettings(BaseModel):
    """One FHIR R4 server."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: _Name = Field(default="fhir", description="name of the destination in counters, logs and the outbox")
    base_url: str = Field(
        pattern=r"^https?://[^\s/?#]+[^\s?#]*$", description="base URL of the server, http:// or https://"
    )
    certs: Path | None = Field(
        default=None,
        description="folder with userkey.pem, usercert.pem and cacert.pem for https; by default the node's own",
    )
    interval: _Seconds = Field(default=60.0, description="seconds between Observations of one continuous metric")
    timeout: _Seconds = Field(default=30.0, description="seconds for one exchange with the server")
    retry_first: _Seconds = Field(default=1.0, description="seconds before the first resend; doubles from there")
    retry_max: _Seconds = Field(default=60.0, description="longest pause between resends, in seconds")
    namespace: str = Field(
        default="http://sdc-node.example/fhir",
        pattern=r"^https?://[^\s/?#]+[^\s?#]*[^\s?#/]$",
        description="base of our identifier and code systems; set one that your organisation owns, and keep it",
    )

    @field_validator("base_url")
    @classmethod
    def _names_a_host(cls, base_url: str) -> str:
        try:
            parts = urlsplit(base_url)
            _ = parts.port  # read only now
        except ValueError:
            raise ValueError("its host is no address, or its port no number from 0 to 65535") from None
        if not parts.hostname:
            raise ValueError("names no host")
        try:
            parts.hostname.encode("idna")
        except UnicodeError:
            raise ValueError("its host is no host name: a part of it is empty, too long or forbidden") from None
        return base_url
