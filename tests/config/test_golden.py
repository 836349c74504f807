"""Bad pipeline files beside the exact words they are answered with: golden/config/NAME.yaml and NAME.txt.

Lines `# --set KEY=VALUE` at the head of a file are given as overrides.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from compresslab.config import load_pipeline
from compresslab.errors import ConfigError

GOLDEN = Path(__file__).parent.parent / "golden" / "config"
OVERRIDE = "# --set "


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.yaml")))
def test_the_words_for_a_bad_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    path = Path(f"{name}.yaml")
    lines = path.read_text(encoding="utf-8").splitlines()
    overrides = [line.removeprefix(OVERRIDE) for line in lines if line.startswith(OVERRIDE)]
    with pytest.raises(ConfigError, match=r"^(--set |[a-z_]+\.yaml)") as caught:
        load_pipeline(path, overrides)
    assert f"{caught.value}\n" == path.with_suffix(".txt").read_text(encoding="utf-8")


def test_every_golden_file_has_its_partner() -> None:
    yamls = {path.stem for path in GOLDEN.glob("*.yaml")}
    assert yamls == {path.stem for path in GOLDEN.glob("*.txt")}
    assert len(yamls) >= 14
