"""Work that has time goes slower where the kernel says that others have to wait."""

import pytest

from fustor_source_fs.pressure import Pressure


class Kernel:
    """A folder like /proc/pressure, and a clock."""

    def __init__(self, folder):
        self.folder = folder
        self.now_s = 100.0

    def say(self, *, cpu=0.0, io=0.0):
        for kind, percent in (("cpu", cpu), ("io", io)):
            (self.folder / kind).write_text(
                f"some avg10={percent:.2f} avg60=99.00 avg300=99.00 total=7\n"
                "full avg10=99.00 avg60=99.00 avg300=99.00 total=7\n")
        self.now_s += 1

    def measure(self, limit_percent=50.0):
        return Pressure(limit_percent, lambda: self.now_s, folder=self.folder)


@pytest.fixture
def kernel(tmp_path):
    return Kernel(tmp_path)


@pytest.mark.parametrize(
    ("cpu", "io", "percent", "share"),
    [(0, 0, 0, 1), (50, 3, 50, 1), (3, 50, 50, 1), (80, 10, 80, 50 / 80), (0, 100, 100, 0.5)],
)
def test_above_the_limit_the_share_falls_in_proportion_to_what_is_scarcer(kernel, cpu, io, percent, share):
    kernel.say(cpu=cpu, io=io)
    pressure = kernel.measure()
    assert pressure.get_percent() == percent
    assert pressure.get_share() == pytest.approx(share)


def test_it_is_read_again_after_a_second(kernel):
    pressure = kernel.measure()
    kernel.say(io=100)
    assert pressure.get_share() == 0.5
    kernel.say(io=0)
    kernel.now_s -= 0.1
    assert pressure.get_share() == 0.5, "reading it for every directory would cost more than it saves"
    kernel.now_s += 0.1
    assert pressure.get_share() == 1


def test_without_a_limit_nothing_goes_slower_and_the_pressure_is_told(kernel):
    kernel.say(cpu=100)
    pressure = kernel.measure(limit_percent=0)
    assert (pressure.get_percent(), pressure.get_share()) == (100, 1)


@pytest.mark.parametrize("text", [None, "", "some total=1", "full avg10=90.00 avg60=1 avg300=1 total=1", "\udcff"])
def test_a_kernel_that_does_not_say_it_makes_nothing_slower(kernel, text):
    if text is not None:
        for kind in ("cpu", "io"):
            (kernel.folder / kind).write_bytes(text.encode("utf-8", "surrogateescape"))
    pressure = kernel.measure()
    assert (pressure.get_percent(), pressure.get_share()) == (None, 1)


def test_one_that_says_half_of_it_is_believed(kernel):
    kernel.say(io=100)
    (kernel.folder / "cpu").unlink()
    assert kernel.measure().get_percent() == 100


def test_this_kernel_says_what_is_understood():
    percent = Pressure(50.0, lambda: 0.0).get_percent()
    assert percent is None or 0 <= percent <= 100


def test_an_audit_goes_at_the_share_and_the_status_says_so(inside, start_still, kernel):
    for number in range(200):
        (inside / f"f{number}").write_text("")
    kernel.say(io=100)
    still = start_still(audit_rows_per_s=100.0, pressure_limit_percent=25)
    still.source._pressure._folder = kernel.folder
    still.begin()
    still.source._wake_event.wait = (waits := []).append
    still.source._now = still.source._pressure._now = lambda: 0.0
    audit = still.source.get_audit_iterator("full")
    while next(audit) is not None:
        pass
    still.source.wait(3600.0)
    assert waits == [pytest.approx(201 / 100 * 4)], "all that was looked at, at a quarter of the rate"
    details = still.source.get_status().details
    assert (details["pressure_percent"], details["audit_pace_percent"]) == (100, 25)


def test_the_status_says_nothing_of_what_the_kernel_does_not_say(start_still, tmp_path):
    still = start_still()
    still.source._pressure._folder = tmp_path / "none"
    assert not {"pressure_percent", "audit_pace_percent"} & set(still.source.get_status().details)
