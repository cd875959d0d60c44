"""What Prefect and MLflow show of a run and a version."""

from earmark.reporting import markdown

SCORES = {"accuracy": 0.972, "accuracy_ci95": [0.951, 0.986]}
COSTS = {"saved_bytes": 312_000, "latency_ms_p50": 1.25}
DATA = {"training": (1_080, 36), "test": (360, 12)}


def test_a_run_and_its_report_are_links():
    text = markdown.run_links("https://mlflow.example.org", "0a1b", "report.html")
    assert text == (
        "[MLflow run](https://mlflow.example.org/#/runs/0a1b?workflowType=machine_learning) ·"
        " [report](https://mlflow.example.org/get-artifact?run_uuid=0a1b&path=report.html)\n"
    )


def test_a_sentence_is_shown_as_it_is_whatever_labels_are_called():
    text = markdown.sentences("registered tc_resnet: drop of 'no|`yes'\nto make it champion anyway: earmark …")
    assert text == "`registered tc_resnet: drop of 'no/'yes'`\n\n`to make it champion anyway: earmark …`\n"


def test_a_version_is_told_by_its_figures_first_then_by_its_data_and_its_report():
    metrics = {"validation": {"accuracy": 0.5}, "test": SCORES, **COSTS}
    figures, data, report = markdown.about_version("tc_resnet", metrics, "a|b`c", DATA, "#/report").split("\n\n")
    assert figures.replace("\u00a0", " ") == (
        "97.2 % accuracy on the test split (95 % interval 95.1–98.6 %): tc_resnet, 312 kB, 1.25 ms per clip"
    )
    assert data == "Data: `a/b'c`, training: 1,080 clips of 36 speakers; test: 360 clips of 12 speakers"
    assert report == "[Report](#/report)"


def test_without_a_test_split_the_figures_are_of_validation_and_it_is_said():
    about = markdown.about_version("tc_resnet", {"validation": SCORES, **COSTS}, "folder", DATA, "#/report")
    assert "accuracy on the validation split" in about
