"""Outstanding syncs: which sessions were asked, who has answered; pure: the time is a parameter."""

import secrets

import msgspec

RESEND_S = 2.0


class _Question(msgspec.Struct):
    token: str
    session_id: str
    agent_id: str
    asked_s: float | None = None
    answered: bool = False
    error: str | None = None


class SyncRound(msgspec.Struct):
    """
    One request's questions to the agents of a view.

    Args:
        questions: One for each session that is asked.
    """

    questions: list[_Question]

    def is_answered(self) -> bool:
        """Tell whether every agent has answered."""
        return all(question.answered for question in self.questions)

    def get_error(self) -> str | None:
        """Return why an agent cannot fulfil it, if one has said so."""
        for question in self.questions:
            if question.error is not None:
                return f"agent {question.agent_id}: {question.error}"
        return None

    def get_missing(self) -> list[str]:
        """Return the agents that have not answered."""
        return [question.agent_id for question in self.questions if not question.answered]


class Barriers:
    """The outstanding syncs of one view."""

    def __init__(self) -> None:
        self._questions: dict[str, _Question] = {}

    def begin(self, sessions: list[tuple[str, str]]) -> SyncRound:
        """Begin a round of questions to these (session, agent); `end` it in any case."""
        questions = [_Question(secrets.token_hex(8), session_id, agent_id) for session_id, agent_id in sessions]
        self._questions.update((question.token, question) for question in questions)
        return SyncRound(questions)

    def end(self, round_: SyncRound) -> None:
        """Forget a round."""
        for question in round_.questions:
            self._questions.pop(question.token, None)

    def answer(self, session_id: str, token: str, error: str | None) -> bool:
        """Note an answer; a token that is unknown, or not this session's, changes nothing."""
        question = self._questions.get(token)
        if question is None or question.session_id != session_id or question.answered:
            return False
        question.answered = True
        question.error = error
        return True

    def ask_again(self, session_id: str) -> None:
        """Ask a session anew, since it has more to look at: an answer that is on its way promises too little."""
        for token, question in list(self._questions.items()):
            if question.session_id == session_id and not question.answered:
                del self._questions[token]
                question.token, question.asked_s = secrets.token_hex(8), None
                self._questions[question.token] = question

    def fail_session(self, session_id: str) -> None:
        """Note that a session ended before it answered."""
        for question in self._questions.values():
            if question.session_id == session_id and not question.answered:
                question.answered = True
                question.error = "its session ended"

    def take_due(self, session_id: str, *, now_s: float) -> list[str]:
        """Return the tokens to ask a session for now: new ones, and those not answered for a while."""
        due = []
        for token, question in self._questions.items():
            if question.session_id == session_id and not question.answered and self._due_s(question) <= now_s:
                question.asked_s = now_s
                due.append(token)
        return due

    def get_next_due(self, session_id: str) -> float | None:
        """Return when `take_due` will have something again; None if never."""
        return min((self._due_s(question) for question in self._questions.values()
                    if question.session_id == session_id and not question.answered), default=None)

    @staticmethod
    def _due_s(question: _Question) -> float:
        return float("-inf") if question.asked_s is None else question.asked_s + RESEND_S
