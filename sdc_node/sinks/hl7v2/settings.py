"""Settings of an HL7 v2 destination: `[[hl7]]` in node.toml."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

_Eui64 = Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{16}$")]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Hl7Settings(BaseModel):
    """One receiver of PCD-01 and PCD-04 over MLLP, and who we say we are to it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: _Name = Field(default="hl7", description="name of the destination in counters, logs and the outbox")
    host: str = Field(min_length=1, description="host name or address of the MLLP receiver")
    port: int = Field(ge=1, le=65_535, description="TCP port of the MLLP receiver (2575 is customary)")
    tls: bool = Field(default=False, description="TLS >= 1.2 to the receiver, with mutual authentication")
    certs: Path | None = Field(
        default=None,
        description="folder with userkey.pem, usercert.pem and cacert.pem for TLS; by default the node's own",
    )
    interval: _Seconds = Field(
        default=30.0, description="PCD-01 export interval in seconds, aligned to the clock (R8037)"
    )
    grace: float = Field(
        default=0.5, ge=0, le=10, description="seconds to wait after an interval's end for values determined in it"
    )
    max_clock_offset: float = Field(
        default=10.0,
        gt=0,
        description="seconds from a continuous value's corrected time to its arrival beyond which the arrival counts",
    )
    pcd01_timeout: _Seconds = Field(default=30.0, description="seconds to wait for the acknowledgement of a PCD-01")
    pcd04_timeout: _Seconds = Field(default=5.0, description="seconds to wait for the acknowledgement of a PCD-04")
    retry_first: _Seconds = Field(default=1.0, description="seconds before the first resend; doubles from there")
    retry_max: _Seconds = Field(default=60.0, description="longest pause between resends, in seconds")
    application: str = Field(default="SDC_NODE", min_length=1, description="MSH-3.1 sending application")
    eui64: _Eui64 = Field(
        default="0000000000000000",
        description="MSH-3.2: the gateway's EUI-64, 16 upper-case hex digits; set your own in production",
    )
    facility: str = Field(default="", description="MSH-4 sending facility")
    receiving_application: str = Field(default="", description="MSH-5")
    receiving_facility: str = Field(default="", description="MSH-6")
    country: str = Field(
        default="", pattern=r"^([A-Z]{3})?$", description="MSH-17: ISO 3166 three-letter code, or empty"
    )
    patient_class: str = Field(default="U", pattern=r"^[EIOPRBU]$", description="PV1-2 (R8112)")

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        try:
            host.encode("idna")
        except UnicodeError:
            raise ValueError("no host name: a part of it is empty, too long or forbidden") from None
        return host
