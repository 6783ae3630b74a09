from pathlib import Path

import pytest

from fustor_core.program.errors import BadConfig
from fustor_core.program.yamlfile import MAX_BYTES, read_yaml


def test_a_file_that_is_no_configuration_by_its_size_is_not_even_parsed(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"a: 1\n".ljust(MAX_BYTES))
    assert read_yaml(path, if_missing="").value == {"a": 1}
    path.write_bytes(b"a: 1\n".ljust(MAX_BYTES + 1))
    with pytest.raises(BadConfig, match="larger than 4194304 bytes"):
        read_yaml(path, if_missing="")
