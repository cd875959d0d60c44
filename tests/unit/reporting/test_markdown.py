"""Markdown beside the tables, which test_flow shows: links, and text of others."""

from earmark.reporting import markdown


def test_a_run_and_its_report_are_links():
    text = markdown.run_links("https://mlflow.example.org", "0a1b", "report.html")
    assert text == (
        "[MLflow run](https://mlflow.example.org/#/runs/0a1b) ·"
        " [report](https://mlflow.example.org/get-artifact?run_uuid=0a1b&path=report.html)\n"
    )


def test_a_sentence_is_shown_as_it_is_whatever_labels_are_called():
    text = markdown.sentences("registered tc_resnet: drop of 'no|`yes'\nto make it champion anyway: earmark …")
    assert text == "`registered tc_resnet: drop of 'no/'yes'`\n\n`to make it champion anyway: earmark …`\n"
