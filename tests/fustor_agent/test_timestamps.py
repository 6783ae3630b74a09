from datetime import UTC, datetime, timedelta

from fustor_agent.timestamps import format_now


def test_the_time_is_utc_in_iso_8601_to_the_millisecond() -> None:
    text = format_now()
    assert len(text) == len("2026-01-01T00:00:00.000Z")
    assert abs(datetime.now(UTC) - datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")) < timedelta(minutes=1)
