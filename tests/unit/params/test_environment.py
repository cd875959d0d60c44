"""Where people find MLflow's server."""

import pytest

from earmark.params import environment


@pytest.mark.parametrize(
    ("tracking", "browser", "expected"),
    [
        ("sqlite:///mlflow.db", "http://127.0.0.1:5000", ""),
        ("http://me:secret@mlflow:5000", "", "http://mlflow:5000"),
        ("http://mlflow:5000", "http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_people_open_the_address_for_browsers(monkeypatch, tracking, browser, expected):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    monkeypatch.setenv("MLFLOW_BROWSER_URL", browser)
    assert environment.mlflow_server() == expected
