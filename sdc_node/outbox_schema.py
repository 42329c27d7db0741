"""The outbox's tables, as migrations: one that was released is never edited, only followed by another.

`item` is what waits, in the order of `seq`; `head` marks the oldest of its destination, lane and key, so that
finding what may be sent costs the same however much waits. `tally` is kept by triggers, so that it cannot
disagree with the rows, whoever changes them.
"""

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE item (
        seq INTEGER PRIMARY KEY,
        destination TEXT NOT NULL CHECK (destination <> ''),
        lane TEXT NOT NULL CHECK (lane IN ('alert', 'bulk')),
        key TEXT NOT NULL,
        id TEXT NOT NULL CHECK (id <> ''),
        body BLOB NOT NULL,
        size INTEGER NOT NULL,
        created INTEGER NOT NULL,
        due INTEGER NOT NULL,
        since INTEGER NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        refusals INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        head INTEGER NOT NULL,
        UNIQUE (destination, id)
    );
    CREATE INDEX item_of_key ON item (destination, lane, key, seq);
    CREATE INDEX item_of_lane ON item (destination, lane, seq);
    CREATE INDEX item_head ON item (destination, lane, due, seq) WHERE head = 1;

    CREATE TABLE sent (
        seq INTEGER PRIMARY KEY,
        destination TEXT NOT NULL,
        lane TEXT NOT NULL,
        id TEXT NOT NULL,
        created INTEGER NOT NULL,
        at INTEGER NOT NULL,
        UNIQUE (destination, id)
    );
    CREATE INDEX sent_at ON sent (at);

    CREATE TABLE dead (
        seq INTEGER PRIMARY KEY,
        destination TEXT NOT NULL,
        lane TEXT NOT NULL,
        key TEXT NOT NULL,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        created INTEGER NOT NULL,
        tries INTEGER NOT NULL,
        refusals INTEGER NOT NULL,
        reason TEXT NOT NULL,
        buried INTEGER NOT NULL,
        UNIQUE (destination, id)
    );
    CREATE INDEX dead_of_destination ON dead (destination, seq);

    CREATE TABLE dropped (
        destination TEXT NOT NULL,
        lane TEXT NOT NULL,
        reason TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (destination, lane, reason)
    ) WITHOUT ROWID;

    CREATE TABLE tally (
        destination TEXT NOT NULL,
        lane TEXT NOT NULL,
        waiting INTEGER NOT NULL DEFAULT 0,
        waiting_bytes INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0,
        dead_bytes INTEGER NOT NULL DEFAULT 0,
        sent INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (destination, lane)
    ) WITHOUT ROWID;
    CREATE TRIGGER item_in AFTER INSERT ON item BEGIN
        INSERT INTO tally (destination, lane) VALUES (new.destination, new.lane) ON CONFLICT DO NOTHING;
        UPDATE tally SET waiting = waiting + 1, waiting_bytes = waiting_bytes + new.size
            WHERE destination = new.destination AND lane = new.lane;
    END;
    CREATE TRIGGER item_out AFTER DELETE ON item BEGIN
        UPDATE tally SET waiting = waiting - 1, waiting_bytes = waiting_bytes - old.size
            WHERE destination = old.destination AND lane = old.lane;
    END;
    CREATE TRIGGER sent_in AFTER INSERT ON sent BEGIN
        UPDATE tally SET sent = sent + 1 WHERE destination = new.destination AND lane = new.lane;
    END;
    CREATE TRIGGER dead_in AFTER INSERT ON dead BEGIN
        UPDATE tally SET dead = dead + 1, dead_bytes = dead_bytes + length(new.body)
            WHERE destination = new.destination AND lane = new.lane;
    END;
    CREATE TRIGGER dead_out AFTER DELETE ON dead BEGIN
        UPDATE tally SET dead = dead - 1, dead_bytes = dead_bytes - length(old.body)
            WHERE destination = old.destination AND lane = old.lane;
    END
    """,
)
