"""The weights that come with the kit: whole, small, documented, and good for something."""

import re

import numpy as np
import pytest
import torch

from lumirkit.base.errors import RequestError
from lumirkit.data_manifests.dataset import find_dataset_json, read_dataset
from lumirkit.registration.device import Place
from lumirkit.registration.pair_files import read_pair
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.warp import sample
from lumirkit.registration.weights import find_weights, load_ensemble
from lumirkit.submission.shipped_weights import NO_WEIGHTS, SHIPPED_WEIGHTS, chosen_weights

MOST_MEGABYTES = 40
NON_COMMERCIAL = SHIPPED_WEIGHTS.with_name("weights_nc")  # in a clone, but not in the wheel


@pytest.fixture(scope="module", params=[SHIPPED_WEIGHTS, NON_COMMERCIAL], ids=["kit", "nc"])
def folder(request):
    return request.param


def test_they_are_small(folder):
    assert sum(file.stat().st_size for file in find_weights([folder])) < MOST_MEGABYTES * 1e6


def test_those_for_non_commercial_use_are_an_ensemble_of_five():
    assert len(find_weights([NON_COMMERCIAL])) == 5


def test_those_of_the_wheel_have_its_licence():
    for card in load_ensemble([SHIPPED_WEIGHTS])[1]:
        assert card.provenance["licence"].startswith("Apache-2.0")
        assert "CC0" in card.provenance["data"]


def test_their_cards_say_what_they_are_made_of_and_the_readme_which_they_are(folder):
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for card in load_ensemble([folder])[1]:
        assert {"data", "licence", "validation"} <= set(card.provenance)
        assert not re.search(r"(?<![\w.])/\w+/", card.model_dump_json())  # a path of some machine
        assert card.sha256[:12] in readme


def test_they_bring_two_heads_closer(phantom_root, folder):
    """Phantoms are no brains, and smaller; still, what lies on each other agrees better than before."""
    pair = read_dataset(find_dataset_json(phantom_root)).validation[0]
    fixed, moving = read_pair(phantom_root / pair.fixed, phantom_root / pair.moving)
    predictor = Predictor([folder], Place(torch.device("cpu")))
    disp_vox = torch.from_numpy(predictor(fixed, moving)).movedim(-1, 0)[None]
    warped = sample(torch.from_numpy(moving.data)[None, None], disp_vox)[0, 0].numpy()
    brain = fixed.data > 0
    before, after = (np.corrcoef(fixed.data[brain], image[brain])[0, 1] for image in (moving.data, warped))
    assert after > before + 0.02


def test_named_weights_come_before_those_of_the_kit(tmp_path):
    assert chosen_weights([tmp_path]) == [tmp_path]
    assert chosen_weights(None) == chosen_weights([]) == [SHIPPED_WEIGHTS]
    assert chosen_weights([NO_WEIGHTS]) == []
    with pytest.raises(RequestError, match="beside other weights"):
        chosen_weights([NO_WEIGHTS, tmp_path])
