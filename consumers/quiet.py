"""Keeps sdc11073's own logging from writing message bodies, which hold patient data.

The library formats bodies, tracebacks and schema errors into its messages before a handler sees them. So its text is
never let through: of a record of WARNING or above only the name of the library's logger is logged, at DEBUG.
"""

import logging

logger = logging.getLogger("consumers.library")

LIBRARY_LOGGERS = ("sdc", "sdc_comm", "sdc11073")
"""Roots of all loggers that sdc11073 3.0.0 uses; `sdc_comm` holds raw messages and is closed completely."""


class _NameOnly(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger.debug("sdc11073 has a %s from %s", record.levelname, record.name)


def silence() -> None:
    """Make the library's loggers safe for this process. May be called again; the first call decides."""
    for name in LIBRARY_LOGGERS:
        root = logging.getLogger(name)
        if any(isinstance(handler, _NameOnly) for handler in root.handlers):
            continue
        root.handlers.clear()
        root.addHandler(_NameOnly())
        root.propagate = False
        root.setLevel(logging.CRITICAL + 1 if name == "sdc_comm" else logging.WARNING)
    for name in list(logging.Logger.manager.loggerDict):
        if name.split(".", 1)[0] in LIBRARY_LOGGERS and name not in LIBRARY_LOGGERS:
            child = logging.getLogger(name)
            child.handlers.clear()
            child.setLevel(logging.NOTSET)
            child.propagate = True
