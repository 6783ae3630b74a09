"""The pusher of type `fusion`."""

import math
import time
from collections.abc import Callable, Sequence
from urllib.parse import quote

import msgspec

from fustor_core.drivers import (
    Batch,
    Command,
    Heartbeat,
    NotTaken,
    PusherContext,
    PusherDriver,
    Role,
    Session,
)
from fustor_core.errors import ConfigError, SessionLost, Unavailable, Uncertain
from fustor_event_model import FS_SCHEMA
from fustor_pusher_fusion import answers, own
from fustor_pusher_fusion.client import Channel, Target, hush_urllib3
from fustor_pusher_fusion.config import FusionConfig, digest_files, read_key
from fustor_pusher_fusion.public import PublicPush
from fustor_pusher_fusion.session import SessionState

MAX_POLL_S = 60.0


class FusionPusher(PusherDriver):
    """
    Pushes to one Fusion: one of this project, or a public one.

    Owns one connection per thread role; `close` releases them.

    Args:
        config: A `FusionConfig`.
        context: What the worker provides.
        clock: Monotonic seconds.
    """

    Config = FusionConfig
    config: FusionConfig

    def __init__(
        self, config: FusionConfig, context: PusherContext, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(config, context)
        hush_urllib3()
        target = Target(
            endpoint=config.endpoint,
            key=read_key(config),
            connect_timeout_s=config.connect_timeout_s,
            read_timeout_s=config.read_timeout_s,
            verify=config.verify,
            proxy=config.proxy,
        )
        self._clock = clock
        self._push = Channel(target, on_progress=context.on_progress, clock=clock)
        self._heartbeat = Channel(target, clock=clock)
        self._commands = Channel(target, clock=clock)
        self._other = Channel(target, on_progress=context.on_progress, clock=clock)
        self._state: SessionState | None = None

    def open_session(self) -> Session:
        """Open a new session; see `PusherDriver.open_session`."""
        try:
            answer = self._other.call("POST", "session/", body=self._opening())
        except Uncertain as err:
            # It is asked for again by the same name; at a public Fusion one that nobody uses times out by itself.
            raise Unavailable(str(err)) from None
        session = answers.read_created(answer)
        if not session.commits and self.context.schema != FS_SCHEMA:
            self.close_session(session)
            raise ConfigError(
                f'endpoint "{self.config.endpoint}" is a public Fusion, which takes only fs rows, '
                f'but the source gives "{self.context.schema}"; send it to a Fusion of this project'
            )
        self._adopt(session, fresh=session.role is Role.LEADER)
        return session

    def resume_session(self, session: Session) -> Session:
        """Go on with a predecessor's session, if a heartbeat of it is answered."""
        beat = self._beat(session, can_realtime=False)
        resumed = msgspec.structs.replace(session, role=beat.role)
        # Commands that came with this heartbeat are gone with it: public ones are delivered once
        # and only ask for a scan; ours are asked for again.
        self._adopt(resumed, fresh=False)
        return resumed

    def heartbeat(self, session: Session, *, can_realtime: bool) -> Heartbeat:
        """Keep the session alive; see `PusherDriver.heartbeat`."""
        beat = self._beat(session, can_realtime=can_realtime)
        self._state_of(session).confirm(beat.role, self._clock())
        return beat

    def close_session(self, session: Session) -> None:
        """End the session; one that is over already is no error."""
        answer = self._other.call("DELETE", f"session/{_part(session)}", idempotent=True)
        if not answer.ok and answer.status not in (404, 419):
            raise answers.explain(answer, "closing a session")

    def push(self, session: Session, batch: Batch) -> Sequence[NotTaken]:
        """Deliver one batch; see `PusherDriver.push`."""
        if session.commits:
            return own.push_batch(self._push, _part(session), batch, read_clock=self.context.read_clock)
        return self._open_public(session).push(batch)

    def poll_commands(self, session: Session, *, wait_s: float) -> Sequence[Command]:
        """Wait for commands; only a Fusion of this project has the channel."""
        if not session.has_commands:
            return ()
        wait_s = min(max(wait_s, 0.0), MAX_POLL_S)
        path = f"session/{_part(session)}/commands?wait={wait_s:g}"
        answer = self._commands.call("GET", path, idempotent=True, read_timeout_s=wait_s + self.config.read_timeout_s)
        return answers.read_commands(answer)

    def report_barrier(self, session: Session, token: str, *, error: str | None) -> None:
        """Answer a `Sync`."""
        if not session.commits:
            return
        body = msgspec.json.encode({"token": token, "error": error})
        answer = self._other.call("POST", f"session/{_part(session)}/barrier", body=body, idempotent=True)
        if answer.status in (404, 419):
            raise SessionLost(f"barrier: Fusion answers {answer.reason}")
        if not answer.ok:
            raise answers.explain(answer, "barrier")

    def end_audit(self, session: Session, *, complete: bool) -> None:
        """Have a public Fusion say when the last audit was; one of this project learns it from the batches."""
        if complete and not session.commits:
            self._open_public(session).end_audit()

    def get_sentinel_tasks(self, session: Session) -> Sequence[bytes]:
        """Return paths that a public Fusion suspects to be written to; one of this project asks by a command."""
        if session.commits:
            return ()
        return answers.read_sentinel_tasks(self._commands.call("GET", "consistency/sentinel/tasks", idempotent=True))

    @classmethod
    def digest_files(cls, config: FusionConfig) -> str:
        """Return a digest of the files with the key and with the certificates to trust."""
        return digest_files(config)

    def test_connection(self) -> None:
        """Check endpoint and credential by the protocol's discovery call."""
        answer = self._other.call("GET", "session/", idempotent=True)
        if not answer.ok:
            raise answers.explain(answer, "discovery")

    def close(self) -> None:
        """Close the connections."""
        for channel in (self._push, self._heartbeat, self._commands, self._other):
            channel.close()

    def _opening(self) -> bytes:
        pipe_id, agent_id, schema = self.context.pipe_id, self.context.agent_id, self.context.schema
        hello: dict[str, object] = {
            "protocol": 1, "agent_id": agent_id, "pipe_id": pipe_id, "schema": schema,
            "session_id": self.context.propose_session(),
        }
        if self.context.read_clock is not None:
            hello["clock"] = self.context.read_clock()
        body: dict[str, object] = {
            "task_id": f"{agent_id}:{self.config.view or pipe_id}",
            "source_type": schema,
            "client_info": {"source_uri": None},
            "fustor": hello,
        }
        if self.config.session_timeout_s is not None:
            body["session_timeout_seconds"] = math.ceil(self.config.session_timeout_s)
        return msgspec.json.encode(body)

    def _beat(self, session: Session, *, can_realtime: bool) -> Heartbeat:
        state = self._state
        role = state.role if state is not None and state.session.id == session.id else session.role
        body = msgspec.json.encode({"can_realtime": can_realtime})
        answer = self._heartbeat.call("POST", f"session/{_part(session)}/heartbeat", body=body, idempotent=True)
        return answers.read_heartbeat(answer, role)

    def _open_public(self, session: Session) -> PublicPush:
        state = self._state_of(session)
        if state.is_doubtful(self._clock()):
            # A public Fusion answers 200 to pushes of a session that it has ended.
            raise Unavailable("push: no heartbeat was answered for the session's time-out; the session may be over")
        return PublicPush(self._push, state)

    def _adopt(self, session: Session, *, fresh: bool) -> SessionState:
        state = SessionState(session, fresh=fresh and not session.commits, now_s=self._clock())
        self._state = state
        return state

    def _state_of(self, session: Session) -> SessionState:
        state = self._state
        if state is None or state.session.id != session.id:
            return self._adopt(session, fresh=False)
        return state


def _part(session: Session) -> str:
    return quote(session.id, safe="")
