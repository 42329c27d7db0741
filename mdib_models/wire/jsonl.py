"""The recorded log: one JSON value a line (decision 10 of the house).

An `Mdib` line opens a device and follows each resync, then one `Report` line each; `Linked` lines tell of the link.
Numbers keep their digits (of a bare `-0`, the sign is lost). Reading a log folds it again: `replay`.
"""

import re
from collections.abc import Iterable, Iterator

import msgspec

from mdib_models.identity import DeviceId
from mdib_models.mirror import Folded, Mdib, empty, fold, link, snapshot
from mdib_models.updates import LinkUpdate, Report, ReportBatch


class Opened(msgspec.Struct, frozen=True, gc=False, tag="mdib", tag_field="line"):
    """A whole MDIB, as it was after GetMdib."""

    device: DeviceId
    arrived: int
    mdib: Mdib


class Reported(msgspec.Struct, frozen=True, gc=False, tag="report", tag_field="line"):
    """One report."""

    device: DeviceId
    report: Report


class Linked(msgspec.Struct, frozen=True, gc=False, tag="link", tag_field="line"):
    """The link to a device changed."""

    device: DeviceId
    arrived: int
    link: LinkUpdate


Line = Opened | Reported | Linked

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_QUOTED = re.compile(r"""(["']).*\1""", re.DOTALL)


class LogError(ValueError):
    """A line that cannot be read; says which, and never quotes it."""


def encode(line: Line) -> bytes:
    """One line, without its line end."""
    return _ENCODER.encode(line)


def decode(text: bytes) -> Line:
    """Read one line. Raises LogError."""
    try:
        line: Line = _DECODER.decode(text)
    except msgspec.DecodeError as error:
        # it names a path and a type, or a byte; it quotes only what stands where one of a few words was due
        raise LogError(_QUOTED.sub("(not shown)", str(error))) from None
    except UnicodeDecodeError:
        raise LogError("a text is not UTF-8") from None
    except RecursionError:
        raise LogError("nested too deeply") from None
    return line


def lines_of(batch: ReportBatch) -> Iterator[Line]:
    """What a batch adds to a log."""
    if batch.report is not None:
        yield Reported(batch.device, batch.report)
        return
    links = [update for update in batch.updates if isinstance(update, LinkUpdate)]
    if not links:  # a snapshot, or reports that were merged because a lane was full
        yield Opened(batch.device, batch.arrived, batch.after)
    for update in links:
        yield Linked(batch.device, batch.arrived, update)


def replay(lines: Iterable[Line]) -> Iterator[ReportBatch]:
    """Fold a log again. A report that does not follow from what the log holds raises LogError."""
    mirrors: dict[DeviceId, Mdib] = {}
    for number, line in enumerate(lines, start=1):
        before = mirrors.get(line.device) or empty(line.device)
        if isinstance(line, Opened):
            mirrors[line.device] = line.mdib
            yield snapshot(before, line.mdib, line.arrived)
        elif isinstance(line, Linked):
            yield link(before, line.link, line.arrived)
        else:
            folded = fold(before, line.report)
            if not isinstance(folded, Folded):
                raise LogError(f"line {number}: the report does not follow ({folded.reason})")
            mirrors[line.device] = folded.mdib
            yield folded.batch
