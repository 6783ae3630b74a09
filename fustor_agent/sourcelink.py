"""
The source's end of the data link: what it heard, and what it sent and is not acknowledged.

A thread per link reads what the pusher says into the inbox and wakes the pump; it never
sends, so reading never waits for writing. What was sent is remembered as positions, not
as bytes: when a link dies, the driver looks at the places again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from fustor_agent import link
from fustor_agent.lane import Lane
from fustor_agent.outgoing import Outgoing
from fustor_event_model import MessageSource, encode_items
from fustor_supervisor.channel import Channel
from fustor_supervisor.errors import LinkClosed
from fustor_supervisor.messages import Command as Order

_log = logging.getLogger(__name__)


class Attached(msgspec.Struct, frozen=True):
    """A new link, and what is read from it."""

    epoch: int
    channel: Channel


class FromLink(msgspec.Struct, frozen=True):
    """A message that came over the link of an epoch."""

    epoch: int
    message: link.FromPusher


Entry: TypeAlias = Attached | FromLink | Order


class SourceLink:
    """
    One end over all the epochs of its link; used by the pump's thread, where nothing else is said.

    Args:
        wake: Called from any thread when the inbox has something new.
        fail: Called from a link's thread with the reason when a message cannot be read; ends the worker.
    """

    def __init__(self, wake: Callable[[], None], fail: Callable[[str], object]) -> None:
        self._wake = wake
        self._fail = fail
        self._inbox: deque[Entry] = deque()
        self._newest: Channel | None = None
        self._channel: Channel | None = None
        self.epoch = 0
        self.lanes: Final = {each: Lane() for each in link.LANES}

    # -- called from other threads ----------------------------------------------------------

    def attach(self, epoch: int, channel: Channel) -> None:
        """Take a new link; whoever waits on the old one is woken."""
        if self._newest is not None:
            self._newest.shutdown()
        self._newest = channel
        self.put(Attached(epoch, channel))

    def put(self, entry: Entry) -> None:
        """Put something into the inbox and wake the pump."""
        self._inbox.append(entry)
        self._wake()

    # -- the pump's -------------------------------------------------------------------------

    @property
    def is_attached(self) -> bool:
        """Tell whether there is a link that takes what is sent, as far as is known."""
        return self._channel is not None

    @property
    def waits_for_acks(self) -> bool:
        """Tell whether a batch of any lane is not acknowledged."""
        return any(lane.unacknowledged for lane in self.lanes.values())

    def take(self) -> Entry | None:
        """Take the oldest entry of the inbox; None when it is empty."""
        return self._inbox.popleft() if self._inbox else None

    def begin_epoch(self, attached: Attached, schema: str, recover: Callable[[bytes], None]) -> None:
        """Go over to a new link; first `recover` is called with each position that was under way on the old one."""
        self.epoch, self._channel = attached.epoch, attached.channel
        for lane in self.lanes.values():
            for position in lane.reset():
                recover(position)
        threading.Thread(target=self._read, args=(attached,), name="link-reader", daemon=True).start()
        self.send(link.SourceHello(self.epoch, schema))

    def send_batch(self, lane: MessageSource, batch: Outgoing, session: str) -> int:
        """Send the next batch of a lane, for a session, and remember its positions; returns its sequence number."""
        seq = self.lanes[lane].send(batch.positions, batch.rows + batch.compared)
        items = msgspec.Raw(encode_items(batch.items))
        self.send(link.BatchMessage(lane, seq, batch.rows, items, session))
        return seq

    def send(self, message: link.FromSource) -> None:
        """Send a message; without a link it goes nowhere: what is under way is recovered with the next one."""
        if self._channel is None:
            return
        try:
            self._channel.send(link.encode(message))
        except LinkClosed:
            self._channel = None

    def _read(self, attached: Attached) -> None:
        try:
            while (payload := attached.channel.recv()) is not None:
                self.put(FromLink(attached.epoch, link.decode_from_pusher(payload)))
        except Exception as err:  # the edge of a thread: a source that hears nothing is worse than none
            _log.exception("link unreadable epoch=%d", attached.epoch)
            self._fail(f"{type(err).__name__}: {err}")
        attached.channel.close()
