"""One policy in a mitmproxy: a second one is rejected, and the first goes on."""

from pathlib import Path

import pytest
from mitmproxy.exceptions import AddonManagerError

from egress_policy import default_addons
from egress_policy.proxy.addons.config import TWICE
from tests.helpers.clients import http_get
from tests.helpers.mitm import SCRIPT, Mitm
from tests.helpers.origin import Origin
from tests.helpers.scene import egress


async def test_a_second_policy_is_rejected_with_advice(tmp_path: Path) -> None:
    async with Origin() as origin, egress(tmp_path, default="refuse") as mitm:
        with pytest.raises(AddonManagerError, match="Load it once: by one -s, or by default_add"):
            mitm.master.addons.add(*default_addons())
        assert (await http_get(mitm.port, origin.url())).status == 503
        egress_addons = [one for one in mitm.master.addons.lookup if one.startswith("egress")]
        assert len(set(egress_addons)) == len(egress_addons) == len(default_addons()) + 1  # guard


async def test_a_second_script_gets_advice_without_a_traceback(
    tmp_path: Path,
) -> None:
    scripts = []
    for name in ("one.py", "two.py"):
        scripts.append(str(tmp_path / name))
        Path(scripts[-1]).write_text(SCRIPT.read_text())
    async with (
        Origin() as origin,
        Mitm(tmp_path, expect_errors=True, scripts=scripts, egress_default="refuse") as mitm,
    ):
        (error,) = mitm.errors
        assert error == TWICE
        assert (await http_get(mitm.port, origin.url())).status == 503
    assert origin.accepted == 0


async def test_the_next_mitmproxy_takes_its_own_policy(tmp_path: Path) -> None:
    async with egress(tmp_path, default="refuse"):
        pass
    async with egress(tmp_path, default="refuse") as mitm:
        assert mitm.master.addons.get("egressconfig")
