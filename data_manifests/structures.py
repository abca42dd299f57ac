"""The structures that LUMIR scores: label id, name, hemisphere, group and tissue, read from `structures.csv`.

Ids and names are those of the Neuromorphometrics/BrainCOLOR protocol, as published with the MICCAI 2012 workshop on
multi-atlas labelling ("MICCAI-Challenge-2012-Label-Information") and with SPM 12 ("labels_Neuromorphometrics.xml").
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt

Hemisphere = Literal["left", "right", "none"]
Group = Literal["background", "ventricle", "subcortical", "brain stem", "cerebellum", "white matter", "cortex"]
Tissue = Literal["none", "CSF", "GM", "WM"]


class LabelledStructure(BaseModel):
    """One row of the table.

    `hemisphere` is "none" for structures in the midline and for the background; `tissue` is the class that the
    MICCAI 2012 table gives; `group` gathers structures for a summary.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: NonNegativeInt
    name: str
    hemisphere: Hemisphere
    group: Group
    tissue: Tissue


@cache
def structures() -> dict[int, LabelledStructure]:
    """Read all structures by label id, background (0) included, in ascending order of their ids."""
    table = resources.files("lumirkit.data_manifests").joinpath("structures.csv").read_text(encoding="utf-8")
    rows = [LabelledStructure.model_validate(row) for row in csv.DictReader(table.splitlines())]
    return {row.label: row for row in rows}


def structure_name(label: int) -> str:
    """Name a label id, for example "Right Hippocampus" for 47; "label 999" for an id that is not in the table."""
    structure = structures().get(label)
    return f"label {label}" if structure is None else structure.name
