"""The facts of the two years."""

import pytest
from pydantic import ValidationError

from lumirkit.data_manifests.dataset import ManifestError
from lumirkit.data_manifests.evaluation_config import Split
from lumirkit.data_manifests.facts import TASKS, TaskFacts, load_facts


@pytest.mark.parametrize("task", TASKS)
def test_both_years_share_images_and_labels(task):
    facts = load_facts(task)
    assert facts.name == task
    assert facts.image_shape == (160, 224, 192)
    assert len(facts.training.images) == 3384
    assert [str(facts.training.images[i]) for i in (0, -1)] == ["0000_0000", "3383_0000"]
    assert len(facts.labels) == 133


@pytest.mark.parametrize(("task", "pairs"), [("LUMIR24", 38), ("LUMIR25", 36)])
def test_number_of_pairs(task, pairs):
    facts = load_facts(task)
    assert len(facts.pairs) == len(set(facts.pairs)) == pairs


def test_the_splits_of_2025():
    ends = {
        split.split: [f"{f}<--{m}" for f, m in (split.pairs[0], split.pairs[-1])]
        for split in load_facts("LUMIR25").splits
    }
    assert ends == {
        Split.LANDMARKS: ["3485_0000<--3484_0000", "3493_0000<--3492_0000"],
        Split.IN_DOMAIN: ["3455_0000<--3454_0000", "3463_0000<--3462_0000"],
        Split.OUT_OF_DOMAIN: ["4015_0000<--4014_0000", "4023_0000<--4022_0000"],
        Split.MULTI_MODAL: ["4024_0000<--4033_0001", "4032_0000<--4041_0001"],
    }


def test_no_validation_subject_is_a_training_subject():
    for task in TASKS:
        facts = load_facts(task)
        trained = {image.subject for image in facts.training.images}
        assert not trained & {image.subject for pair in facts.pairs for image in pair}


def test_an_unknown_task_is_refused():
    with pytest.raises(ManifestError, match=r"LUMIR26.*expected one of LUMIR24, LUMIR25"):
        load_facts("LUMIR26")


def test_an_unlisted_modality_is_refused():
    content = load_facts("LUMIR25").model_dump(mode="json") | {"modalities": {"0000": "T1w"}}
    with pytest.raises(ValidationError, match=r"0001.* not listed"):
        TaskFacts.model_validate(content)
