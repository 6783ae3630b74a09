from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_fusion import KEY, FakeFusion

from fustor_core.drivers import PusherContext
from fustor_pusher_fusion import FusionConfig, FusionPusher


@pytest.fixture
def public() -> Iterator[FakeFusion]:
    fusion = FakeFusion()
    yield fusion
    fusion.stop()


@pytest.fixture
def ours() -> Iterator[FakeFusion]:
    fusion = FakeFusion(ours=True)
    yield fusion
    fusion.stop()


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[..., FusionPusher]]:
    """Make drivers for a fake; they are closed at the end."""
    drivers: list[FusionPusher] = []

    def make(
        fusion: FakeFusion, *, schema: str = "fs", clock: Any = None, read_clock: Any = None, **config: Any
    ) -> FusionPusher:
        config = {"endpoint": fusion.url, "credential": KEY} | config
        context = PusherContext(
            pipe_id="pipe", schema=schema, agent_id="agent", state_dir=tmp_path, read_clock=read_clock)
        options = {} if clock is None else {"clock": clock}
        drivers.append(FusionPusher(FusionConfig(**config), context, **options))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()
