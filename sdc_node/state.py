"""What must survive a restart, apart from what is owed: OBX-4 numbers, alerts, and what was told once."""

import asyncio
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sdc_node.database import Database

Numbers = Mapping[tuple[str, str], int]
"""One device's OBX-4 numbers, by (parent handle, handle)."""
AlertKey = tuple[str, str, str]
"""(device, MDS handle, alert condition handle)."""
MetricKey = tuple[str, str, str]
"""(device, MDS handle, metric handle)."""

MIGRATIONS: Final = (
    """
    CREATE TABLE number (
        device TEXT NOT NULL,
        parent TEXT NOT NULL,
        handle TEXT NOT NULL,
        series INTEGER NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (device, parent, handle)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX number_of_series ON number (device, parent, series, number);

    CREATE TABLE alert (
        device TEXT NOT NULL,
        mds TEXT NOT NULL,
        condition TEXT NOT NULL,
        occurrence BLOB NOT NULL,
        PRIMARY KEY (device, mds, condition)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE told (
        destination TEXT NOT NULL,
        device TEXT NOT NULL,
        mds TEXT NOT NULL,
        handle TEXT NOT NULL,
        time INTEGER NOT NULL,
        PRIMARY KEY (destination, device, mds, handle)
    ) WITHOUT ROWID
    """,
)


class State:
    """The node's memory; its methods belong to one event loop. What touches the file may raise
    DatabaseError, and may be tried again after it.
    """

    def __init__(self, database: Database, alerts: Mapping[AlertKey, bytes]) -> None:
        self._database = database
        self._alerts = dict(alerts)
        self._numbers: dict[str, Numbers] = {}

    @classmethod
    async def open(cls, path: Path) -> "State":
        """Open or make the file. Raises DatabaseError in one line if it is not usable."""
        database = await asyncio.to_thread(Database.open, path, MIGRATIONS)
        try:
            alerts = await database.read(_all_alerts)
        except BaseException:
            await database.close()
            raise
        return cls(database, alerts)

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        await self._database.close()

    async def numbers(self, device: str) -> Numbers:
        """The device's numbers, those of handles that are gone included; read once, then from memory."""
        if device not in self._numbers:
            found = await self._database.read(lambda connection: _numbers(connection, device))
            self._numbers.setdefault(device, found)  # an assignment may have been quicker
        return self._numbers[device]

    async def assign(self, device: str, pairs: Sequence[tuple[str, str]], *, first: int = 1) -> Numbers:
        """Give each (parent handle, handle) that has none a number, in the given order (document order),
        and return all of the device's (hl7v2_mapping.md 5.5; R8014, R8015).

        A new one is one above the highest ever given under that parent with the same `first`, or `first`.
        A handle that left keeps its number and finds it again when it returns; nobody else gets it. Metrics
        right under an MDS are another level of OBX-4 than its VMDs, and start at 20: assign them apart,
        with `first=20`.
        """
        if first < 1:
            raise ValueError("OBX-4 numbers are positive")
        known = await self.numbers(device)
        if all(pair in known for pair in pairs):
            return known

        def give(connection: sqlite3.Connection) -> Numbers:
            for parent, handle in pairs:
                connection.execute(
                    "INSERT INTO number (device, parent, handle, series, number) "
                    "SELECT ?1, ?2, ?3, ?4, coalesce(max(number) + 1, ?4) FROM number "
                    "WHERE device = ?1 AND parent = ?2 AND series = ?4 ON CONFLICT DO NOTHING",
                    (device, parent, handle, first),
                )
            return _numbers(connection, device)

        def remember(numbers: Numbers) -> None:
            self._numbers[device] = numbers

        return await self._database.write(give, committed=remember)

    def open_alerts(self) -> dict[AlertKey, bytes]:
        """The occurrences that were saved and not closed, each as the bytes that were saved; from memory."""
        return dict(self._alerts)

    async def told(self, destination: str) -> dict[MetricKey, int]:
        """When (ms) the last determination of each intermittent metric that was told to `destination` was made."""
        return await self._database.read(lambda connection: _told(connection, destination))

    async def save_told(self, destination: str, told: Mapping[MetricKey, int]) -> None:
        """Note what was told, so that a restart does not tell it again under another id."""
        rows = [(destination, *key, time) for key, time in told.items()]

        def save(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO told (destination, device, mds, handle, time) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET time = excluded.time",
                rows,
            )

        await self._database.write(save)

    async def save_alerts(self, upserts: Mapping[AlertKey, bytes], closed: Collection[AlertKey] = ()) -> None:
        """Save what is open and forget what has closed, both or neither. A key in both is a ValueError."""
        if not upserts.keys().isdisjoint(closed):
            raise ValueError("an alert occurrence is either open or closed")
        opened = dict(upserts)
        ended = tuple(closed)

        def save(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO alert (device, mds, condition, occurrence) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET occurrence = excluded.occurrence",
                [(*key, occurrence) for key, occurrence in opened.items()],
            )
            connection.executemany("DELETE FROM alert WHERE device = ? AND mds = ? AND condition = ?", ended)

        def remember(_: None) -> None:
            self._alerts.update(opened)
            for key in ended:
                self._alerts.pop(key, None)

        await self._database.write(save, committed=remember)


def _told(connection: sqlite3.Connection, destination: str) -> dict[MetricKey, int]:
    rows = connection.execute("SELECT device, mds, handle, time FROM told WHERE destination = ?", (destination,))
    return {(device, mds, handle): time for device, mds, handle, time in rows}


def _numbers(connection: sqlite3.Connection, device: str) -> Numbers:
    rows = connection.execute("SELECT parent, handle, number FROM number WHERE device = ?", (device,))
    return MappingProxyType({(parent, handle): number for parent, handle, number in rows})


def _all_alerts(connection: sqlite3.Connection) -> dict[AlertKey, bytes]:
    rows = connection.execute("SELECT device, mds, condition, occurrence FROM alert")
    return {(device, mds, condition): occurrence for device, mds, condition, occurrence in rows}
