"""prefect.yaml: the deployments run parts that the flow knows, and one schedule is active."""

from typing import get_args

import pytest
import yaml
from conftest import ROOT

from flows.retrain import DATA, Part
from flows.turn import limit_name

DEPLOYMENTS = {
    entry["name"]: entry for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
}


def test_each_deployment_runs_a_part_on_the_pool_for_it():
    parts = {name: entry["parameters"].get("part", "all") for name, entry in DEPLOYMENTS.items()}
    assert parts == {"weekly": "all", "data": "data", "training": "training"}
    assert set(parts.values()) == set(get_args(Part))
    pools = {name: entry["work_pool"]["name"] for name, entry in DEPLOYMENTS.items()}
    assert pools == {"weekly": "cpu", "data": "cpu", "training": "gpu"}


def test_one_schedule_is_active():
    schedules = [(name, entry) for name in DEPLOYMENTS for entry in DEPLOYMENTS[name].get("schedules", [])]
    assert [name for name, schedule in schedules if schedule["active"]] == ["weekly"]


def test_the_data_stages_are_in_dvc_yaml():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert set(stages) - set(DATA) == {"train", "evaluate"}


@pytest.mark.parametrize(
    "address",
    ["https://git.example.org/team/sounds.git", "https://me:pa%40ss@git.example.org/team/sounds/"],
)
def test_addresses_of_a_repository_share_a_limit_whose_name_prefect_accepts_and_has_no_password(address):
    assert limit_name(address) == "retrain https-git.example.org-team-sounds"
