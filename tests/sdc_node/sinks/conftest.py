"""What a sink stands on: a real outbox and a real memory in a folder of the test's own."""

import contextlib

import pytest

from sdc_node.outbox import Outbox
from sdc_node.state import State


@pytest.fixture
def stores():
    """An outbox and a state, opened in a folder; opening them there again is a restart of the node."""

    @contextlib.asynccontextmanager
    async def opened(folder):
        state = await State.open(folder / "state.sqlite")
        try:
            outbox = await Outbox.open(folder / "outbox.sqlite")
            try:
                yield outbox, state
            finally:
                await outbox.close()
        finally:
            await state.close()

    return opened
