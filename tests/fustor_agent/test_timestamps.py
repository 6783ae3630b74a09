from datetime import UTC, datetime, timedelta

from fustor_agent.timestamps import format_now


def test_the_time_is_utc_in_iso_8601_to_the_second() -> None:
    text = format_now()
    assert len(text) == len("2026-01-01T00:00:00Z")
    assert abs(datetime.now(UTC) - datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")) < timedelta(minutes=1)
