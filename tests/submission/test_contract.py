import pytest

from lumirkit.submission.contract import CONTRACTS, ContractError, find_contract


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_mounts_are_recognised(tmp_path, contract):
    mounted = contract.under(tmp_path)
    mounted.images.mkdir(parents=True)
    mounted.dataset_json.write_text("{}")
    assert find_contract(tmp_path) == mounted


def test_the_published_mounts():
    mounts = {c.name: (str(c.images), str(c.dataset_json), str(c.output)) for c in CONTRACTS}
    assert mounts == {
        "lumir2025": ("/app/input", "/app/LUMIR25_dataset.json", "/app/output"),
        "lumir2024": ("/input", "/LUMIR_dataset.json", "/output"),
    }


def test_missing_mounts_are_named(tmp_path):
    with pytest.raises(ContractError, match=r"no pair list is mounted.*LUMIR25_dataset\.json.*LUMIR_dataset\.json"):
        find_contract(tmp_path)
    (tmp_path / "LUMIR_dataset.json").write_text("{}")
    with pytest.raises(ContractError, match="expected the images of lumir2024"):
        find_contract(tmp_path)
