from collections.abc import Callable

import pytest

from fustor_agent.drivers import DriverInfo, DriverKind, list_drivers, load_pusher, load_source
from fustor_core.errors import ConfigError, DriverError

InstallDriver = Callable[[str, str, str], None]

PUSHER = """
import msgspec
from fustor_core.drivers import PusherDriver
class Driver(PusherDriver):
    class Config(msgspec.Struct):
        x: int = 0
    def open_session(self): ...
    def heartbeat(self, session, *, can_realtime): ...
    def close_session(self, session): ...
    def push(self, session, batch): ...
    def test_connection(self): ...
    def close(self): ...
"""


def test_a_good_driver_is_loaded(install_driver: InstallDriver) -> None:
    install_driver("pusher", "good", PUSHER)
    assert load_pusher("good").__name__ == "Driver"


def test_drivers_are_listed_without_being_imported(install_driver: InstallDriver) -> None:
    install_driver("source", "rude", "raise SystemExit('imported')")
    assert DriverInfo(DriverKind.SOURCE, "rude", "strange-rude", "2.5", "strange_rude:Driver") in list_drivers()


def test_an_unknown_type_lists_the_known_ones(install_driver: InstallDriver) -> None:
    install_driver("source", "other", "")
    with pytest.raises(ConfigError, match=r'type "nfs": no source driver .* use one of: .*fs.*other'):
        load_source("nfs")


def test_a_pusher_is_not_a_known_source(install_driver: InstallDriver) -> None:
    install_driver("pusher", "good", PUSHER)
    with pytest.raises(ConfigError, match="no source driver"):
        load_source("good")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("1 / 0", "importing strange_bad raises ZeroDivisionError: division by zero"),
        ("import no_such_module", "importing strange_bad raises ModuleNotFoundError: No module named"),
        ("", "names strange_bad:Driver, which cannot be found"),
        ("class Driver: pass", "is not a subclass of fustor_core.drivers.PusherDriver"),
        ("def Driver(): pass", "is not a subclass of fustor_core.drivers.PusherDriver"),
        (PUSHER.replace("def push(", "def pusch("), "strange_bad:Driver lacks push"),
        (PUSHER.replace("class Config", "class Confit"), "has no `Config` that is a msgspec.Struct"),
        (PUSHER.replace("(msgspec.Struct)", ""), "has no `Config` that is a msgspec.Struct"),
    ],
)
def test_a_driver_that_breaks_the_contract_names_its_package_and_the_remedy(
    install_driver: InstallDriver, code: str, expected: str
) -> None:
    install_driver("pusher", "bad", code)
    with pytest.raises(DriverError) as caught:
        load_pusher("bad")
    message = str(caught.value)
    assert message.startswith('pusher driver "bad" of strange-bad 2.5 cannot be used: ')
    assert expected in message
    assert message.endswith("upgrade or uninstall that package, or report it to its authors")


def test_a_source_must_name_its_row_type(install_driver: InstallDriver) -> None:
    methods = (
        "get_message_iterator get_snapshot_iterator follow scan_path rescan barrier acknowledge recover wait wake"
        " get_status close test_connection check_privileges get_available_fields"
    )
    body = "".join(f"    def {name}(self): ...\n" for name in methods.split())
    head = "import msgspec\nfrom fustor_core.drivers import SourceDriver\nclass Driver(SourceDriver):\n"
    code = f"{head}    class Config(msgspec.Struct): ...\n{body}"
    install_driver("source", "bad", code)
    with pytest.raises(DriverError, match="does not say the name of its row type"):
        load_source("bad")
    install_driver("source", "fine", code + "    schema = 'fs'\n")
    assert load_source("fine").schema == "fs"


def test_two_packages_that_bring_one_type_are_a_contradiction(install_driver: InstallDriver) -> None:
    install_driver("pusher", "fusion", PUSHER)
    with pytest.raises(ConfigError, match=r"several packages .*fustor-pusher-fusion, strange-fusion"):
        load_pusher("fusion")
