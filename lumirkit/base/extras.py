"""Packages that only some commands need, which come with the extras of the installation."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from lumirkit.base.errors import RequestError


def installed_version(package: str) -> str | None:
    """The version of a distribution, such as antspyx; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def extra_to_install(extra: str) -> str:
    """The words that tell a user how to install an extra of this kit."""
    return f"install the extra, in the kit's folder: pip install -e '.[{extra}]'"


def require_extra(asker: str, extra: str, *packages: str) -> None:
    """Check that packages of an extra are installed.

    Args:
        asker: the command or option that needs them, as a user wrote it.
        extra: the extra of this kit that brings them.
        packages: names of distributions, such as antspyx.

    Raises:
        RequestError: one of them is not installed.
    """
    for package in packages:
        if installed_version(package) is None:
            raise RequestError(f"{asker} needs {package}; {extra_to_install(extra)}")
