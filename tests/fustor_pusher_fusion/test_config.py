import hashlib
from pathlib import Path

import msgspec
import pytest

from fustor_core.errors import ConfigError
from fustor_pusher_fusion.config import FusionConfig, digest_files, read_key

SECRET = "s3cret-value"


def config(**values: object) -> FusionConfig:
    return msgspec.convert({"endpoint": "http://host:8102", "credential": SECRET} | values, FusionConfig)


def test_a_digest_changes_with_the_files_that_are_named_and_shows_nothing_of_them(tmp_path: Path) -> None:
    key, certificates = tmp_path / "key", tmp_path / "certificates"
    named = config(credential={"file": str(key)}, verify=str(certificates))
    digests = [digest_files(named)]
    for path, content in ((key, SECRET), (key, f"{SECRET}2"), (certificates, "one"), (certificates, SECRET)):
        path.write_text(content)
        digests.append(digest_files(named))
        assert digest_files(named) == digests[-1]
    assert len(set(digests)) == 5
    assert hashlib.sha256(SECRET.encode()).hexdigest() not in "".join(digests)
    assert digest_files(config()) == digest_files(config(credential="another"))


def test_what_is_left_out_has_the_documented_values() -> None:
    made = config()
    assert (made.connect_timeout_s, made.read_timeout_s, made.verify) == (5.0, 10.0, True)
    assert (made.session_timeout_s, made.proxy, made.view) == (None, None, None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"endpoint": "ftp://host"}, "not an http or https URL"),
        ({"endpoint": "host:8102"}, "not an http or https URL"),
        ({"endpoint": "embedded"}, "not an http or https URL"),
        ({"endpoint": "http://host:99999"}, "not a URL"),
        ({"endpoint": "http://user:s3cret-value@host"}, "holds a user name or password"),
        ({"endpoint": "http://host/?key=s3cret-value"}, "query or fragment"),
        ({"read_timeout_s": 0}, "read_timeout_s"),
        ({"connect_timeout_s": float("inf")}, "connect_timeout_s"),
        ({"session_timeout_s": -1}, "session_timeout_s"),
        ({"view": ""}, "view is empty"),
        ({"proxy": "nonsense"}, "proxy"),
        ({"credential": {}}, "exactly one"),
        ({"credential": {"env": "A", "file": "/b"}}, "exactly one"),
        ({"credential": {"vault": "x"}}, "vault"),
        ({"credentials": "x"}, "credentials"),
    ],
)
def test_a_wrong_value_is_named_and_no_secret_is_shown(values: dict[str, object], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said) as caught:
        config(**values)
    assert SECRET not in str(caught.value)


def test_the_key_comes_from_the_configuration_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\nmore\n")
    monkeypatch.setenv("A_KEY", f" {SECRET} ")
    for credential in (SECRET, {"env": "A_KEY"}, {"file": str(tmp_path / "key")}):
        assert read_key(config(credential=credential)) == SECRET


def test_a_key_that_is_not_there_is_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"s3cret-value\xff")
    for credential, said in (
        ("", "is empty"),
        ({"env": "A_KEY"}, "is not set"),
        ({"file": str(tmp_path / "none")}, "cannot be read"),
        ({"file": str(tmp_path)}, "cannot be read"),
        ({"file": str(tmp_path / "empty")}, "is empty"),
        ({"file": str(tmp_path / "binary")}, "characters that no API key has"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            read_key(config(credential=credential))
        assert SECRET not in str(caught.value)
