"""Which subjects of a dataset are for training and which for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from lumirkit.base.errors import RequestError
from lumirkit.data_manifests.split import Part
from lumirkit.prepare.sources import Subject

_BYTES = 8  # of a hash, as a number


@dataclass(frozen=True)
class ValidationRule:
    """The subjects that are for validation, of those of which a table says nothing; none without a rule."""

    last: int = 0
    """How many, the last ones by their numbers."""
    share: float = 0.0
    """How many of all, chosen by the names alone: a subject that comes or goes changes the part of no other."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            RequestError: both rules are asked for, or the share is none.
        """
        if self.last and self.share:
            raise RequestError(
                f"--validation {self.last} with --validation-share {self.share:g}: expected one of them. Leave one out."
            )
        if not 0 <= self.share < 1:
            raise RequestError(f"--validation-share {self.share:g}: expected 0 to less than 1, such as 0.2.")

    def parts(self, subjects: Sequence[Subject], numbers: dict[str, int]) -> dict[str, Part]:
        """The part of every subject, as a table says or by the rule.

        Raises:
            RequestError: one subject would be alone in validation, or there are not so many.
        """
        open_ones = sorted((each.name for each in subjects if each.part is None), key=lambda name: numbers[name])
        if self.last > len(open_ones):
            raise RequestError(f"--validation {self.last}: found {len(open_ones)} subjects for it; expected so many.")
        chosen = {*open_ones[len(open_ones) - self.last :], *(each for each in open_ones if self._is_in_share(each))}
        parts = {
            each.name: each.part or (Part.VALIDATION if each.name in chosen else Part.TRAINING) for each in subjects
        }
        if list(parts.values()).count(Part.VALIDATION) == 1:
            raise RequestError(
                "found 1 subject for validation; expected none, or 2 and more to make pairs of. Choose another number "
                "or share, or say in a CSV which subjects are for validation."
            )
        return parts

    def _is_in_share(self, name: str) -> bool:
        """Whether a subject belongs to the share; sessions of one person do so together."""
        person = name.partition("_ses-")[0]
        number = int.from_bytes(hashlib.sha256(person.encode()).digest()[:_BYTES], "big")
        return number < self.share * 2 ** (8 * _BYTES)
