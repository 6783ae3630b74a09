"""Schemathesis, which tests a server by its OpenAPI document, in an environment of its own."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from released import install

REQUIREMENTS: Final = ("schemathesis==4.32.5",)
# Not those by which all that is described must be taken and nothing else: rows are refused one by one, with 200.
CHECKS: Final = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "ignored_auth", "unsupported_method", "allow_header_conformance",
)  # fmt: skip


def run_schema_tester(home: Path, document: dict[str, Any], *, endpoint: str, key: str, max_time_s: int) -> str:
    """
    Test a server.

    Args:
        home: Where it may write.
        document: What the server is to be.
        endpoint: Where it is.
        key: With which it asks.
        max_time_s: How long, about.

    Returns:
        What it says of each fault and in sum.

    Raises:
        NotInstallable: The registry does not give it.
        AssertionError: It found faults; with what it says of them.
    """
    program = install("schema-tester", REQUIREMENTS) / "schemathesis"
    home.mkdir(parents=True, exist_ok=True)
    (home / "openapi.json").write_text(json.dumps(document))
    options = ["--checks", ",".join(CHECKS), "--header", f"X-API-Key: {key}", "--continue-on-failure", "--no-color",
               "--max-time", str(max_time_s), "--generation-database", "none"]  # fmt: skip
    done = subprocess.run(
        [program, "run", "openapi.json", "--url", endpoint, *options], cwd=home, stdin=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(home)}, capture_output=True, text=True,
        timeout=2 * max_time_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
